"""Texts that are the first or the last part of another: they stand side by side once sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.near_candidates import blocks, merged

REACH = 8  # sorted neighbours that may be the whole of a cut text
SHARE = 0.5  # of the whole text that a cut one must hold


def cut_short(texts: pa.Array, ends: np.ndarray) -> np.ndarray:
    """Pairs of texts, left << 32 | right with left < right, sorted, of which one is the begin or
    the end of the other and at least SHARE of it. `texts` are sorted by their bytes; `ends` are the
    hashes of their first and last words, 0 for a text too short to be a part."""
    heads = _repeated(ends[:, 0])
    found = _beginning(texts.take(pa.array(heads)), heads)
    tails = _repeated(ends[:, 1])
    turned = pc.utf8_reverse(texts.take(pa.array(tails)))
    order = np.asarray(pc.sort_indices(turned)).astype(np.int64)
    return merged(found, _beginning(turned.take(pa.array(order)), tails[order]))


def _repeated(hashes: np.ndarray) -> np.ndarray:
    """Where a hash stands that occurs twice or more and is not 0, ascending."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[inverse] > 1) & (hashes != 0))


def _beginning(texts: pa.Array, numbers: np.ndarray) -> np.ndarray:
    """The pairs of which one text begins the other; `texts` are sorted and have these numbers."""
    found = [np.zeros(0, np.uint64)]
    start = 0
    for block in blocks(texts):
        some = texts.slice(start, len(block) + REACH).to_pylist()
        found.append(_heads(some, len(block), numbers[start:]))
        start += len(block)
    return np.concatenate(found)


def _heads(texts: list[str], own: int, numbers: np.ndarray) -> np.ndarray:
    """The pairs whose first is among the first `own` texts."""
    pairs: list[tuple[int, int]] = []
    open_: Sequence[int] = range(own)
    for gap in range(1, REACH + 1):
        open_ = [i for i in open_ if i + gap < len(texts) and texts[i + gap].startswith(texts[i])]
        pairs += [(i, i + gap) for i in open_ if len(texts[i]) >= SHARE * len(texts[i + gap])]
    both = numbers[np.array(pairs, np.int64).reshape(-1, 2)].astype(np.uint64)
    return both.min(1) << np.uint64(32) | both.max(1)
