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
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from warmstart.config.validation import NOTHING
from warmstart.errors import BaseModelError, RecipeError, RunError, shown
from warmstart.formatting import counted
from warmstart.pipelines.adapter_pool import Adapters


def within(folder: Path) -> list[Path]:
    """The folder itself, or those in it, that hold an adapter or a model. Raises `RunError`."""
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    if _holds(folder):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir() and _holds(path))


def _holds(folder: Path) -> bool:
    names = ("adapter_config.json", "config.json")
    return any((place / name).is_file() for place in (folder, folder / "model") for name in names)


def row_of(folder: Path) -> dict[str, Any]:
    """What an adapter or a whole model is; an `error` where it cannot be read."""
    from warmstart.models.adapters.files import CONFIG, base_state, read

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
    from warmstart.models.checks import headers, parameters, read_json, weights_size

    place = folder / "model" if (folder / "model" / "config.json").exists() else folder
    try:
        names = read_json(place / "config.json").get("id2label") or {}
        return {
            "method": "whole model",
            "parameters": parameters(headers(place)),
            "bytes": weights_size(place),
            "labels": [str(names[key]) for key in sorted(names, key=int)],
        }
    except BaseModelError as error:
        return {"error": str(error)}


__all__ = ["Adapters", "add", "average", "listing", "merge"]
Folder = str | Path


def listing(folders: Folder | Sequence[Folder] = "runs") -> list[dict[str, Any]]:
    """The adapters and whole models in folders: each a run, an adapter, or a folder of such.

    Returns one row each: `folder`, `method`, `rank`, `variants`, `base`, `base_state` (present,
    another, unknown where no sum was kept, absent), `parameters` and `bytes` of the weights file,
    `head`, `labels`, and `error` where it cannot be read. Raises `RunError` where nothing is found.
    """
    places = [folders] if isinstance(folders, str | Path) else list(folders)
    rows = [row_of(path) for place in places for path in within(Path(place))]
    if not rows:
        raise RunError(f"no adapters and no models in {', '.join(map(str, places))}")
    return rows


def merge(adapter: Folder, *, out: Folder, base: str | None = None) -> dict[str, Any]:
    """Write base and adapter as one whole Hugging Face folder, head and tokenizer included.

    It is put in place when it answers sample texts, loaded afresh, as base and adapter do: within
    1e-5 of the largest output. Raises `RunError` where the method is no change of weights or the
    base was rounded, `BaseModelError`, `ProofError`.

    Returns `out`, `parameters`, `labels`, `proof` and `notes`.
    """
    from warmstart.models.adapters import combine
    from warmstart.models.adapters.files import read

    return {"out": str(out), **combine.merge(read(adapter), _free(out), base)}


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
    from warmstart.models.adapters import combine
    from warmstart.models.adapters.files import read

    shares = _weights(weights, len(adapters))
    if combination not in ("cat", "linear", "svd"):
        raise RecipeError(f"--combination = {shown(combination)}: give cat, linear or svd")
    if rank is not None and combination != "svd":
        raise RecipeError("--rank goes with --combination svd alone; cat adds the ranks up")
    files = [read(adapter) for adapter in adapters]
    width = None if rank is None else _rank(rank)
    facts = combine.add(files, shares, _free(out), combination, width, base)
    return {"out": str(out), "weights": shares, **facts}


def average(adapters: Sequence[Folder], *, out: Folder, base: str | None = None) -> dict[str, Any]:
    """Write the adapter whose every weight is the mean of several adapters' weights.

    They are of one method, shape, base and set of labels; heads are averaged too.
    Returns `out`, `rank`, `error` (of lora: how far from the mean change), `labels`, `notes`.
    """
    from warmstart.models.adapters import combine
    from warmstart.models.adapters.files import read

    files = [read(adapter) for adapter in adapters]
    return {"out": str(out), **combine.average(files, _free(out), base)}


def _free(out: Folder) -> Path:
    """The folder to write, which must not be there yet. Raises `RunError`."""
    if os.path.lexists(out):
        raise RunError(f"{out} exists already; choose another --out")
    return Path(out)


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


def _rank(rank: int | str) -> int:
    if not str(rank).isdecimal() or int(rank) < 1:
        raise RecipeError(f"--rank = {shown(rank)}: give a whole number of at least 1")
    return int(rank)
