"""The files by which sentence-transformers knows how a folder makes vectors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from warmstart import files
from warmstart.errors import RunError, shown
from warmstart.files import write_json
from warmstart.models.architectures import width_of
from warmstart.models.checks import read_json

MODES = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token",
         "last": "pooling_mode_lasttoken"}  # fmt: skip
OTHERS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
          "pooling_mode_weightedmean_tokens")  # fmt: skip
KIND = "sentence_transformers.models."


def write_modules(folder: Path, pooling: str, normalise: bool, max_length: int) -> None:
    """`modules.json`, `1_Pooling`, `2_Normalize` and the length, in the form that every version
    of sentence-transformers reads. Raises `RunError`."""
    width = width_of(read_json(folder / "config.json"))
    modules = [_module(0, "", "Transformer"), _module(1, "1_Pooling", "Pooling")]
    modules += [_module(2, "2_Normalize", "Normalize")] if normalise else []
    pools = {"word_embedding_dimension": width}
    pools |= {key: mode == pooling for mode, key in MODES.items()} | dict.fromkeys(OTHERS, False)
    length = {"max_seq_length": max_length, "do_lower_case": False}
    try:
        for module in modules[1:]:
            (folder / module["path"]).mkdir(exist_ok=True)
        write_json(folder / "1_Pooling" / "config.json", pools)
        write_json(folder / "sentence_bert_config.json", length)
        write_json(folder / "modules.json", modules)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {shown(error, 120)}") from error


def read_modules(folder: Path) -> dict[str, Any]:
    """`pooling` and `normalise` of a folder that sentence-transformers reads; empty for another,
    or for a way to pool that is not known here."""
    if not (folder / "modules.json").is_file():
        return {}
    listed = files.read_json(folder / "modules.json")
    paths = {str(m["type"]).rpartition(".")[2]: folder / m["path"] for m in listed}
    if "Pooling" not in paths:
        return {}
    pooling = read_json(paths["Pooling"] / "config.json")
    known = [mode for mode, key in MODES.items() if pooling.get(key)]
    known += [mode for mode, key in (("mean", "mean"), ("first", "cls"), ("last", "lasttoken"))
              if pooling.get("pooling_mode") == key]  # fmt: skip
    if len(known) != 1 or set(paths) - {"Transformer", "Pooling", "Normalize"}:
        return {}
    return {"pooling": known[0], "normalise": "Normalize" in paths}


def copy_modules(source: Path, target: Path) -> None:
    """Copy what `write_modules` wrote from one folder to another."""
    if not (source / "modules.json").is_file():
        return
    for path in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (target / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / path, target / path)
    if (source / "2_Normalize").is_dir():
        (target / "2_Normalize").mkdir(exist_ok=True)


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {"idx": number, "name": str(number), "path": path, "type": KIND + kind}
