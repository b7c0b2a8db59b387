"""A model back on disk: a plain Hugging Face folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from warmstart.errors import RunError, shown
from warmstart.files import read_json as read_list
from warmstart.files import usual_mode, write_atomically, write_json
from warmstart.models.architectures import width_of
from warmstart.models.base import remember
from warmstart.models.checks import (
    ADAPTED,
    NOTE,
    config_file,
    file_sha256,
    fingerprint,
    read_json,
    weights_sha256,
)
from warmstart.models.hf_calls import quiet
from warmstart.models.peft.wrap import as_ordinary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    base: Base | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a plain Hugging Face folder, whole or not at all, and return it.

    `warmstart.json` beside the weights keeps the tokenizer's fingerprint, the base's name and
    `notes`, so that the folder can be checked when it is a base itself. Raises `RunError` when it
    cannot be written.
    """
    with whole_folder(Path(folder), "the model") as fresh:
        with quiet():
            _save_weights(model, fresh)
            tokenizer.init_kwargs.pop("auto_map", None)
            tokenizer.save_pretrained(fresh)
        note = note_of_base(base) if base else {}
        note |= {"tokenizer_sha256": fingerprint(fresh), **(notes or {})}
        write_note(fresh, note)
    return Path(folder).absolute()


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` at the end, or is removed when that fails.

    Raises `RunError` where `what` cannot be written.
    """
    folder = folder.absolute()
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder) as fresh:
            fresh.mkdir()
            yield fresh
            for path in fresh.rglob("*.safetensors"):  # which the library makes for its owner alone
                path.chmod(usual_mode(fresh))
            if folder.exists():
                os.replace(folder, old)
        for left in folder.parent.glob(f".{folder.name}.*.part"):  # `old`, or of a killed process
            shutil.rmtree(left, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {what} to {folder}: {shown(error, 160)}") from error


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """What we keep beside a model or tokenizer, with the sum of the weights that lie there."""
    sums = {path: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    if sums:
        note = {**note, "weights_sha256": weights_sha256(sums)}
    write_json(folder / NOTE, note)


def note_of_base(base: Base) -> dict[str, str]:
    """What finds the base again, and knows it; where it lies stays on this machine."""
    remember(base)
    return {"base": base.shared_name, "base_source": base.source, "base_sha256": base.sha256}


def _save_weights(model: Any, folder: Path) -> None:
    for owner in (model, model.get_base_model() if hasattr(model, "peft_config") else model):
        owner.config.__dict__.pop("auto_map", None)  # code of others, which nobody is to run
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
        return
    with as_ordinary(model) as weights:
        model.save_pretrained(folder, save_embedding_layers=False, state_dict=weights)
    inner = model.get_base_model()
    inner.config.architectures = [type(inner).__name__]
    inner.config.save_pretrained(folder)
    (folder / "config.json").rename(folder / ADAPTED)
    if inner.can_generate():
        inner.generation_config.save_pretrained(folder)


# The files by which sentence-transformers knows how a folder makes vectors.

MODES = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token",
         "last": "pooling_mode_lasttoken"}  # fmt: skip
OTHERS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
          "pooling_mode_weightedmean_tokens")  # fmt: skip
KIND = "sentence_transformers.models."


def write_modules(folder: Path, pooling: str, normalise: bool, max_length: int) -> None:
    """`modules.json`, `1_Pooling`, `2_Normalize` and the length, in the form that every version
    of sentence-transformers reads. Raises `RunError`."""
    width = width_of(read_json(config_file(folder)))
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": KIND + kind}
        for i, kind in enumerate(kinds)
    ]
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
    listed = read_list(folder / "modules.json")
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
