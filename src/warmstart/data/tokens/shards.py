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
from warmstart.files import read_json, write_atomically, write_json

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
            arrays = {name: getattr(store, name) for name in ARRAYS}
            arrays[CUTS] = np.array(cuts, np.int64)
            for name, array in arrays.items():
                array.tofile(part / name)
            kinds = {name: [str(a.dtype), a.nbytes] for name, a in arrays.items()}
            write_json(part / "manifest.json", kinds)
    except OSError:  # a full or read-only disk, or another process was first: it works from memory
        return store
    return _opened(folder, lambda row, tokens: None)


def _opened(folder: Path, on_cut: OnCut) -> TokenizedDataset:
    try:
        kinds = read_json(folder / "manifest.json")
        if any(os.path.getsize(folder / name) != size for name, (_, size) in kinds.items()):
            raise ValueError("a file of another size than it was written with")
        arrays = {name: np.memmap(folder / name, kinds[name][0], "r") for name in ARRAYS}
        cuts = np.fromfile(folder / CUTS, np.int64).reshape(-1, 2)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the tokens kept in {folder} are damaged ({shown(error, 100)}); delete the folder, "
            "and they are made anew"
        ) from None
    for row, tokens in cuts.tolist():
        on_cut(row, tokens)
    targets = np.zeros(len(arrays["offsets"]) - 1, np.float32)
    offsets, of_row = np.array(arrays["offsets"]), np.array(arrays["of_row"])
    return TokenizedDataset(arrays["ids"], offsets, targets, of_row=of_row)
