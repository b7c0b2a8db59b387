"""How much two texts resemble each other, measured word by word for many pairs at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.minhash import NAMES, PAIR, THREADS, WEIGHT, codes_of, ragged
from warmstart.data.tables import pc

PAIRS = 1 << 14  # pairs at a time: their numbers, and those of their texts, fit above a code
CODES = 1_000_000  # codes at a time, about
_CODE = np.uint64((1 << 48) - 1)
NAME = 8  # the weight of a number or letter that stands where the other text has another


def resemblance(texts: pa.Array, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Float32 [pairs, 2]: the share of words and of neighbouring pairs that two texts share.

    Words are a set, each weighing its length plus one: shared / (shared + only in one of them). A
    number or single letter that is exchanged for another weighs at least 8, since it is what such
    texts are about. Pairs of neighbours count one each.
    """
    lengths = np.asarray(pc.binary_length(texts), np.int64)
    load = np.cumsum((lengths[left] + lengths[right]) // 3)
    cuts = [0]
    while cuts[-1] < len(left):
        start = cuts[-1]
        end = int(np.searchsorted(load, (load[start - 1] if start else 0) + CODES))
        cuts.append(min(max(end, start + 1), start + PAIRS))

    def part(start: int, end: int) -> np.ndarray:
        return _measured(texts, left[start:end], right[start:end])

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(part, cuts[:-1], cuts[1:]))
    return np.concatenate([np.zeros((0, 2)), *found]).astype(np.float32)


def _measured(texts: pa.Array, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    used, sides = np.unique(np.concatenate([left, right]), return_inverse=True)
    one, other = sides[: len(left)], sides[len(left) :]
    keys = _sets(texts.take(pa.array(used)))
    starts = np.searchsorted(keys, np.arange(len(used) + 1, dtype=np.uint64) << np.uint64(48))
    both = np.concatenate([_of_pairs(keys, starts, one), _of_pairs(keys, starts, other)])
    both.sort(kind="stable")  # two sorted runs: merged in linear time
    shared = _sums(both[1:][both[1:] == both[:-1]], len(left))
    whole = _sums(keys, len(used))
    (words, neighbours, lacking), (a, b) = shared, (whole[:, one], whole[:, other])
    exchanged = 2 * np.minimum(a[2] - lacking, b[2] - lacking)
    share = words / np.maximum(a[0] + b[0] - words + exchanged, 1)
    return np.stack([share, neighbours / np.maximum(a[1] + b[1] - neighbours, 1)], 1)


def _sets(texts: pa.Array) -> np.ndarray:
    """Each text's codes once, with the number of the text above them; ascending."""
    codes = codes_of(texts)
    text = np.repeat(np.arange(len(codes), dtype=np.uint64), np.diff(codes.starts))
    keys = np.sort(text << np.uint64(48) | codes.flat)
    return keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys


def _of_pairs(keys: np.ndarray, starts: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The codes of one side of the pairs, with the number of the pair above them; ascending."""
    places, ends = ragged(starts, side)
    pair = np.repeat(np.arange(len(side), dtype=np.uint64), np.diff(ends))
    return pair << np.uint64(48) | keys[places] & _CODE


def _sums(keys: np.ndarray, n: int) -> np.ndarray:
    """[3, n], by the number above the codes: the weight of the words, how many pairs of neighbours,
    and what the names lack to the weight NAME."""
    number = (keys >> np.uint64(48)).astype(np.int64)
    weight = (keys & WEIGHT).astype(np.float64)
    pairs = keys & PAIR != 0
    names = np.flatnonzero((keys & NAMES != 0) & ~pairs)
    lacking = np.bincount(number[names], np.maximum(NAME - weight[names], 0), n)
    return np.stack(
        [np.bincount(number, weight, n), np.bincount(number[pairs], minlength=n), lacking]
    )
