"""A model back on disk: a plain Hugging Face folder, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from warmstart.errors import RunError, shown
from warmstart.models.checks import NOTE, fingerprint
from warmstart.models.peft.pissa import as_ordinary
from warmstart.models.quiet import quiet

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
            tokenizer.save_pretrained(fresh)
        note = {"base": named(base), "base_sha256": base.sha256} if base else {}
        note |= {"tokenizer_sha256": fingerprint(fresh), **(notes or {})}
        write_note(fresh, note)
    return Path(folder).absolute()


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` at the end, or is removed when that fails.

    Raises `RunError` where `what` cannot be written.
    """
    folder, fresh = folder.absolute(), None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        fresh.chmod(0o755)
        yield fresh
        _put_in_place(fresh, folder)
        for left in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write {what} to {folder}: {shown(error, 160)}") from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """What we keep beside a model or tokenizer."""
    (folder / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


def named(base: Base) -> str:
    """What finds the base again from any current folder."""
    if base.source == "gguf":
        return str(Path(base.name).expanduser().resolve())
    return str(base.path) if base.source == "folder" else base.name


def _save_weights(model: Any, folder: Path) -> None:
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
        return
    with as_ordinary(model) as weights:
        model.save_pretrained(folder, save_embedding_layers=False, state_dict=weights)
    inner = model.get_base_model()
    inner.config.architectures = [type(inner).__name__]
    inner.config.save_pretrained(folder)
    if inner.can_generate():
        inner.generation_config.save_pretrained(folder)


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Rename, moving an older folder out of the way first."""
    old = fresh.with_name(fresh.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
