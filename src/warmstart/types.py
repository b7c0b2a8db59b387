"""The values that travel between the layers. Nothing here knows a model or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer: the value, how sure the model is (0 to 1), and the score of every choice."""

    id: str
    value: Any
    confidence: float
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
