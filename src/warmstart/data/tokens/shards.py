"""Token ids on disk, written once and mapped into memory: a long corpus is tokenised once and
never held whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import DataError, shown
from warmstart.files import write_atomically, write_json

OnCut = Callable[[int, int], None]
ARRAYS = ("ids", "offsets", "of_row")
CUTS = "cuts"
LEAST = 1 << 20
"""Tokens from which a corpus is kept: fewer are read again as quickly."""


def shard_key(*parts: Any) -> str:
    """A name for the tokens that these values make, json-able ones."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def kept_windows(
    folder: Path, on_cut: OnCut, make: Callable[[OnCut], TokenizedDataset]
) -> TokenizedDataset:
    """What `make` gives, from `folder` where it was written before.

    The arrays are mapped, not read: a place in the corpus is reached in the same time wherever it
    is. `on_cut(row, tokens)` hears what `make` tells, also when it is not called again. Raises
    `DataError` where a file is damaged.
    """
    if (folder / "manifest.json").is_file():
        return _opened(folder, on_cut)
    cuts: list[tuple[int, int]] = []
    store = make(lambda row, tokens: cuts.append((row, tokens)))
    for row, tokens in cuts:
        on_cut(row, tokens)
    if len(store.ids) < LEAST:
        return store
    try:
        with write_atomically(folder) as part:
            part.mkdir(parents=True)
            for name in ARRAYS:
                np.save(part / f"{name}.npy", getattr(store, name), allow_pickle=False)
            np.save(part / f"{CUTS}.npy", np.array(cuts, np.int64).reshape(-1, 2))
            sizes = {name: (part / f"{name}.npy").stat().st_size for name in (*ARRAYS, CUTS)}
            write_json(part / "manifest.json", {"bytes": sizes})
    except OSError:  # a full or read-only disk, or another process was first: it works from memory
        return store
    return _opened(folder, lambda row, tokens: None)


def _opened(folder: Path, on_cut: OnCut) -> TokenizedDataset:
    try:
        sizes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["bytes"]
        if any(os.path.getsize(folder / f"{name}.npy") != size for name, size in sizes.items()):
            raise ValueError("a file of another size than it was written with")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                  for name in ARRAYS}  # fmt: skip
        cuts = np.load(folder / f"{CUTS}.npy", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the tokens kept in {folder} are damaged ({shown(error, 100)}); delete the folder, "
            "and they are made anew"
        ) from None
    for row, tokens in cuts.tolist():
        on_cut(row, tokens)
    targets = np.zeros(len(arrays["offsets"]) - 1, np.float32)
    return TokenizedDataset(arrays["ids"], np.asarray(arrays["offsets"]), targets,
                            of_row=np.asarray(arrays["of_row"]))  # fmt: skip
