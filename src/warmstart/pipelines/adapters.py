"""Adapters as files: listed, merged, added, averaged; many in memory on one base.

    import warmstart

    warmstart.adapters.merge("runs/tickets-lora", out="merged")
    both = warmstart.adapters.Adapters("minilm")
    both.load("tickets", "runs/tickets-lora").predict(["my parcel never came"])

Folders are those of runs or of adapters, ours or PEFT's. `out` must not exist; `base` says where
the base model stands, if not where the adapter says. Errors are those of `warmstart`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from warmstart.config.validation import NOTHING
from warmstart.errors import BaseModelError, RecipeError, RunError, UnknownNameError, shown
from warmstart.formatting import counted
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.inference.torch import Torch, TorchRunner
from warmstart.models.adapters import combine
from warmstart.models.adapters.files import CONFIG, base_state, read, sum_of_base
from warmstart.models.adapters.open import opened, share
from warmstart.models.base import Base, resolve
from warmstart.models.checks import headers, labels_of, parameters, read_json, weights_size
from warmstart.models.hf_calls import one_line
from warmstart.run import new_folder
from warmstart.types import Prediction

__all__ = ["Adapters", "add", "average", "listing", "merge"]
Folder = str | Path
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "bf16", "auto"]


def listing(folders: Folder | Sequence[Folder] = "runs") -> list[dict[str, Any]]:
    """The adapters and whole models in folders: each a run, an adapter, or a folder of such.

    Returns one row each: `folder`, `method`, `rank`, `variants`, `base`, `base_state` (present,
    another, unknown where no sum was kept, absent), `parameters` and `bytes` of the weights file,
    `head`, `labels`, and `error` where it cannot be read. Raises `RunError` where nothing is found.
    """
    places = [folders] if isinstance(folders, str | Path) else list(folders)
    rows = [_row(path) for place in places for path in _within(Path(place))]
    if not rows:
        raise RunError(f"no adapters and no models in {', '.join(map(str, places))}")
    return rows


@one_line("the adapter cannot be merged")
def merge(adapter: Folder, *, out: Folder, base: str | None = None) -> dict[str, Any]:
    """Write base and adapter as one whole Hugging Face folder, head and tokenizer included.

    It is put in place when it answers sample texts, loaded afresh, as base and adapter do: within
    1e-5 of the largest output. Raises `RunError` where the method is no change of weights or the
    base was rounded, `BaseModelError`, `ProofError`.

    Returns `out`, `parameters`, `labels`, `proof` and `notes`.
    """
    return {"out": str(out), **combine.merge(read(adapter), new_folder(out), base)}


@one_line("the adapters cannot be added")
def add(
    adapters: Sequence[Folder],
    *,
    out: Folder,
    weights: Sequence[float] | str | None = None,
    combination: Literal["cat", "linear", "svd"] = "cat",
    rank: int | str | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Write the adapter whose change is the weighted sum of several adapters' changes.

    Args:
        adapters: lora, ia3 or layernorm, of one method, base and set of labels.
        weights: one each; unset: all 1 / n. Heads are averaged by them.
        combination: of lora: cat is exact, and its rank the sum of the ranks; svd is the nearest
            of `rank` (unset: the largest of the ranks); linear is quick and rough.

    Returns `out`, `rank`, `error` (how far from the sum, relative to its size), `labels`, `notes`.
    """
    shares = _weights(weights, len(adapters))
    if combination not in ("cat", "linear", "svd"):
        raise RecipeError(f"--combination = {shown(combination)}: give cat, linear or svd")
    if rank is not None and combination != "svd":
        raise RecipeError("--rank goes with --combination svd alone; cat adds the ranks up")
    width = None if rank is None else int(rank) if str(rank).isdecimal() else 0
    if width is not None and width < 1:
        raise RecipeError(f"--rank = {shown(rank)}: give a whole number of at least 1")
    files = [read(adapter) for adapter in adapters]
    facts = combine.add(files, shares, new_folder(out), combination, width, base)
    return {"out": str(out), "weights": shares, **facts}


@one_line("the adapters cannot be averaged")
def average(adapters: Sequence[Folder], *, out: Folder, base: str | None = None) -> dict[str, Any]:
    """Write the adapter whose every weight is the mean of several adapters' weights.

    They are of one method, shape, base and set of labels; heads are averaged too.
    Returns `out`, `rank`, `error` (of lora: how far from the mean change), `labels`, `notes`.
    """
    files = [read(adapter) for adapter in adapters]
    return {"out": str(out), **combine.average(files, new_folder(out), base)}


def _weights(weights: Sequence[float] | str | None, count: int) -> list[float]:
    """One weight an adapter. Raises `RecipeError`."""
    if weights is None or weights == NOTHING:
        return [1 / count] * count if count else []
    try:
        words = weights.split(",") if isinstance(weights, str) else weights
        numbers = [float(word) for word in words]
    except ValueError:
        raise RecipeError(
            f"--weights = {shown(weights)}: give numbers with commas: 0.7,0.3"
        ) from None
    if len(numbers) != count:
        raise RecipeError(
            f"--weights gives {counted(len(numbers), 'number')} for {counted(count, 'adapter')}"
        )
    if not all(map(math.isfinite, numbers)) or not any(numbers):
        raise RecipeError(f"--weights = {shown(weights)}: give finite numbers, not all 0")
    return numbers


def _within(folder: Path) -> list[Path]:
    """The folder itself, or those in it, that hold an adapter or a model. Raises `RunError`."""
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    if _holds(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir() and _holds(path))


def _holds(folder: Path) -> bool:
    names = ("adapter_config.json", "config.json")
    return any((place / name).is_file() for place in (folder, folder / "model") for name in names)


def _row(folder: Path) -> dict[str, Any]:
    """What an adapter or a whole model is; an `error` where it cannot be read."""
    row: dict[str, Any] = {"folder": str(folder)}
    if not any((place / CONFIG).is_file() for place in (folder, folder / "model")):
        return row | _whole_row(folder)
    try:
        file = read(folder)
        return row | {
            "method": file.method,
            "rank": file.rank,
            "variants": file.variants,
            "base": file.base,
            "base_state": base_state(file),
            "base_bits": file.bits or None,
            "parameters": file.parameters,
            "bytes": file.weights.stat().st_size,
            "head": file.head.name,
            "labels": file.labels,
        }
    except (RunError, BaseModelError) as error:
        return row | {"error": str(error)}


def _whole_row(folder: Path) -> dict[str, Any]:
    """A folder with a whole model."""
    place = folder / "model" if (folder / "model" / "config.json").exists() else folder
    try:
        return {
            "method": "whole model",
            "parameters": parameters(headers(place)),
            "bytes": weights_size(place),
            "labels": labels_of(read_json(place / "config.json"), place),
        }
    except BaseModelError as error:
        return {"error": str(error)}


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

    @one_line("the adapter cannot be loaded")
    def load(self, name: str, folder: str | Path) -> Adapters:
        """Put an adapter, or a run with one, under a name.

        Raises `RunError`, `RecipeError` where the name is taken, and `BaseModelError` where the
        adapter was trained on another base.
        """
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
        engine = Torch(device=self._device, precision=self._precision)
        with opened(file, self.base) as adapter:
            self._predictors[name] = open_predictor(adapter, engine)
        share(self.model(name), self._weights)
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
        return cast("TorchRunner", self._predictor(adapter).runner).model

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
