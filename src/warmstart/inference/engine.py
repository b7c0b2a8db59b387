"""Where a model answers: build what the engine needs from a run, open it as a Predictor."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from warmstart.part import Part
from warmstart.types import Predictor


class Engine(Part):
    """A way to compute answers from a saved model."""

    kind: ClassVar[str] = "engine"

    def build(self, run: Path, out: Path) -> Path:
        """Make the engine's own form of the model; returns where it stands."""
        raise NotImplementedError

    def open(self, path: Path) -> Predictor:
        """A Predictor over what `build` made."""
        raise NotImplementedError
