"""What `adapters list` says of each folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from warmstart.errors import BaseModelError, RunError


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
    from warmstart.models.adapter_base import base_state
    from warmstart.models.adapter_files import CONFIG, read

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
            "head": file.head,
            "labels": file.labels,
        }
    except (RunError, BaseModelError) as error:
        return row | {"error": str(error)}


def _whole_row(folder: Path) -> dict[str, Any]:
    """A folder with a whole model."""
    from warmstart.models.weights import header, parameters, read_json, weight_files

    place = folder / "model" if (folder / "model" / "config.json").exists() else folder
    try:
        files = weight_files(place)
        tensors = {name: entry for file in files for name, entry in header(file).items()}
        names = read_json(place / "config.json").get("id2label") or {}
        return {
            "method": "whole model",
            "parameters": parameters(tensors),
            "bytes": sum(file.stat().st_size for file in files),
            "labels": [str(names[key]) for key in sorted(names, key=int)],
        }
    except BaseModelError as error:
        return {"error": str(error)}
