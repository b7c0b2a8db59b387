"""Checkpoints that are whole or do not count.

A checkpoint is a folder of safetensors and a `manifest.json` with the hash of every file. It is
written under another name, the manifest last, flushed to the disk, and renamed. Reading begins
with the newest and checks the hashes; what fails is passed over for the one before, which is kept
until two newer ones are good. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from warmstart.errors import RunError, shown
from warmstart.files import check_plain, read_json

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
KEPT = 2


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
    """Write the checkpoint of `step`; remove those before the previous one, and later ones.

    Raises `RunError` when the disk is full or read-only; nothing half-written stays.
    """
    final = folder / f"step-{step:08d}"
    fresh = folder / f".step-{step:08d}"
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
        save_file(plain, fresh / TENSORS)
        _write(fresh / STATE, json.dumps(state))
        sums = {name: _sha256(fresh / name) for name in (TENSORS, STATE)}
        _write(fresh / MANIFEST, json.dumps({"step": step, "sha256": sums}))
        _flush(fresh / TENSORS)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(fresh, final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise RunError(f"cannot write a checkpoint to {folder}: {shown(error, 160)}") from error
    later = [path for path in _all(folder) if path.name > final.name]  # none of them could be read
    for old in [*later, *_all(folder)[len(later) + KEPT :]]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole."""
    return next((path for path in _all(folder) if _whole(path)), None)


def passed_over(folder: Path) -> str:
    """What to say of the checkpoints that are newer than the one to go on from and cannot be read;
    nothing where there are none."""
    found, good = _all(folder), newest(folder)
    names = " and ".join(path.name for path in found if good is None or path.name > good.name)
    if not names:
        return ""
    if good is None:
        return f"no checkpoint of {folder.parent} can be read ({names}); it begins again at step 1"
    return (
        f"the newest checkpoint of {folder.parent} cannot be read ({names}); it goes on from the "
        f"one before, {good.name}"
    )


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint that `newest` gave."""
    return load_file(path / TENSORS), read_json(path / STATE)


def clear(folder: Path) -> None:
    """Remove all checkpoints of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"), reverse=True)


def _whole(path: Path) -> bool:
    try:
        sums = read_json(path / MANIFEST)["sha256"]
        return all(sums[name] == _sha256(path / name) for name in (TENSORS, STATE))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(path: Path) -> str:
    check_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
