"""Many adapters in memory on one base, used by name with no reload between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from warmstart.errors import BaseModelError, RecipeError, RunError, UnknownNameError
from warmstart.types import Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.inference.predictor import Predictor
    from warmstart.inference.torch import TorchRunner
    from warmstart.models.adapters.files import AdapterFile
    from warmstart.models.base import Base

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "auto"]


class Adapters:
    """One base model, and adapters on it, each with its own head and labels.

        both = Adapters("minilm")
        both.load("topic", "runs/topic")
        both.load("mood", "runs/mood")
        both.predict(["my parcel never came"], adapter="mood")

    The base's weights are in memory once, whatever the number, methods and tasks of the adapters.
    Nothing is read or computed to go from one to another.

    Args:
        base: minilm, smollm2, a folder, a GGUF file, or a hub id.
        device: auto (cuda if there is one), cpu or cuda.
        precision: of the computation; fp32 answers as `predict` does.

    Raises `BaseModelError`.
    """

    def __init__(
        self,
        base: str | Path,
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
    ) -> None:
        from warmstart.models.base import resolve

        self.base: Base = resolve(str(base))
        self._device: Device = device
        self._precision: Precision = precision
        self._predictors: dict[str, Predictor] = {}
        self._weights: dict[str, Tensor] = {}
        self._active: str | None = None

    @property
    def names(self) -> list[str]:
        """The adapters in memory, in the order of loading."""
        return list(self._predictors)

    @property
    def active(self) -> str | None:
        """Who answers where no adapter is named: the first one loaded, or the last one `use`d."""
        return self._active

    def load(self, name: str, folder: str | Path) -> Adapters:
        """Put an adapter, or a run with one, under a name.

        Raises `RunError`, `RecipeError` where the name is taken, and `BaseModelError` where the
        adapter was trained on another base.
        """
        from warmstart.models.adapters.files import read, sum_of_base

        if name in self._predictors:
            raise RecipeError(
                f"there is an adapter '{name}' already; remove it or take another name"
            )
        file = read(folder)
        if file.bits:
            raise RunError(
                f"{file.folder} was trained on a base rounded to {file.bits} bits, which shares no "
                "weights with others; open it alone with warmstart.predict"
            )
        sha256 = sum_of_base(file)
        if sha256 and sha256 != self.base.sha256:
            raise BaseModelError(
                f"{file.folder} was trained on the base '{file.base}' (sha256 {sha256[:12]}…), and "
                f"here is '{self.base.name}' ({self.base.sha256[:12]}…)"
            )
        self._predictors[name] = self._opened(file)
        self._active = self._active or name
        return self

    def use(self, name: str) -> Adapters:
        """Make an adapter the one that answers. Raises `UnknownNameError`."""
        self._predictor(name)
        self._active = name
        return self

    def remove(self, name: str) -> None:
        """Forget an adapter. Raises `UnknownNameError`."""
        self._predictor(name)
        del self._predictors[name]
        if self._active == name:
            self._active = next(iter(self._predictors), None)

    def labels(self, adapter: str | None = None) -> list[str]:
        """The labels of an adapter, in the order of its outputs."""
        return list(self._predictor(adapter).labels)

    def model(self, adapter: str | None = None) -> Any:
        """The model of an adapter, as PEFT has it."""
        return _model(self._predictor(adapter))

    def predict(self, rows: str | Sequence[Any], adapter: str | None = None) -> list[Prediction]:
        """One prediction a text (a row, for a task with several inputs) by one adapter.

        Raises `UnknownNameError`, and `RunError` where none is loaded.
        """
        return self._predictor(adapter).predict([rows] if isinstance(rows, str) else rows)

    def __repr__(self) -> str:
        return f"Adapters('{self.base.name}', {', '.join(self.names) or 'none loaded'})"

    def _predictor(self, name: str | None) -> Predictor:
        name = name or self._active
        if name is None:
            raise RunError("no adapter is loaded yet: load(name, folder)")
        if name not in self._predictors:
            raise UnknownNameError("adapter", name, self._predictors)
        return self._predictors[name]

    def _opened(self, file: AdapterFile) -> Predictor:
        from warmstart.inference.predictor import open_predictor
        from warmstart.inference.torch import Torch
        from warmstart.models.adapters.open import opened, share

        engine = Torch(device=self._device, precision=self._precision)
        with opened(file, self.base) as folder:
            predictor = open_predictor(folder, engine)
        share(_model(predictor), self._weights)
        return predictor


def _model(predictor: Predictor) -> Any:
    """The model behind a predictor of the torch engine."""
    return cast("TorchRunner", predictor.runner).model
