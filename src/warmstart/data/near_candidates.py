"""Which texts may resemble each other: few pairs out of all, found without comparing all.

MinHash (Broder 1997) in bands: texts that agree in a whole band are candidates, unless their
signatures as a whole say that they share too little.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.near_words import Codes, codes_of, mixed

ROWS, BANDS = 5, 20  # 100 values: of pairs with Jaccard 0.7 97 % are candidates
LEAST_ALIKE = 0.45  # of the values; a pair with Jaccard 0.7 has fewer once in ten million
MOST_CODES = 512  # of one text; of a longer one a fixed share is drawn by hash
WINDOW = 4  # neighbours in a band that are compared: time stays linear in large families
LEAST_OF_CUT = 12  # words that a part of another text must have
BLOCK, BYTES = 50_000, 2_000_000  # texts, and bytes, at a time
THREADS = min(4, os.cpu_count() or 1)
CODES = 1 << 17  # codes whose values are computed at a time: they fit into the cache
PAIRS = 1 << 15  # pairs whose values are compared at a time
_FACTORS = (mixed(np.arange(1, ROWS * BANDS + 1, dtype=np.uint64)) >> np.uint64(32)).astype(
    np.uint32
) | np.uint32(1)
_STEP = np.uint32(0x9E3779B1)
_LOWER, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@dataclass(frozen=True, slots=True, eq=False)
class Sketches:
    """What is kept of each text to find those that resemble it."""

    bands: np.ndarray  # uint32 [BANDS, texts]: a hash of the band's ROWS values
    values: np.ndarray  # uint8 [texts, BANDS * ROWS]: the low byte of each value
    ends: np.ndarray  # uint64 [texts, 2]: see `_ends`


def sketches_of(texts: pa.Array) -> Sketches:
    """The sketches of all texts, block by block in threads."""
    count = len(texts)
    found = Sketches(
        np.empty((BANDS, count), np.uint32),
        np.empty((count, BANDS * ROWS), np.uint8),
        np.empty((count, 2), np.uint64),
    )
    parts = list(blocks(texts))
    starts = np.cumsum([0, *map(len, parts)]).tolist()

    def sketch(part: pa.Array, start: int) -> None:
        codes = codes_of(part)
        found.ends[start : start + len(part)] = _ends(codes)
        _sketch(sampled(codes), found, start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(sketch, parts, starts[:-1]))
    return found


def sampled(codes: Codes) -> Codes:
    """The codes with their bits stirred; of each text at most about MOST_CODES, drawn alike in
    texts alike."""
    flat, size = mixed(codes.flat), np.diff(codes.starts)
    if size.max(initial=0) <= MOST_CODES:
        return Codes(flat, codes.starts)
    limit = np.minimum(MOST_CODES / np.maximum(size, 1), 1.0)
    text = np.repeat(np.arange(len(size)), size)
    kept = (flat >> np.uint64(11)) * 2.0**-53 < limit[text]
    starts = np.zeros_like(codes.starts)
    np.cumsum(np.bincount(text[kept], minlength=len(size)), out=starts[1:])
    return Codes(flat[kept], starts)


def _sketch(codes: Codes, found: Sketches, start: int) -> None:
    """Write bands and values of these texts, the first of which is number `start`.

    The values of a text are the least of its codes, each time multiplied by another odd number.
    """
    cuts = np.searchsorted(codes.starts, np.arange(CODES, codes.starts[-1], CODES), "right") - 1
    cuts = np.unique(np.concatenate([[0], cuts, [len(codes)]])).tolist()
    for begin, end in pairwise(cuts):
        places = codes.starts[begin : end + 1]
        some = (codes.flat[places[0] : places[-1]] >> _HALF).astype(np.uint32)
        if not len(some):
            some = np.zeros(1, np.uint32)
        heads = np.minimum(places[:-1] - places[0], len(some) - 1)
        turned, rows = np.empty_like(some), slice(start + begin, start + end)
        for band in range(BANDS):
            key = np.zeros(end - begin, np.uint32)
            for number in range(band * ROWS, (band + 1) * ROWS):
                least = np.minimum.reduceat(np.multiply(some, _FACTORS[number], turned), heads)
                found.values[rows, number] = least.astype(np.uint8)
                key = key * _STEP + least
            found.bands[band, rows] = key


def _ends(codes: Codes) -> np.ndarray:
    """A hash of the first and of the last LEAST_OF_CUT - 1 words of texts with LEAST_OF_CUT words
    or more (where a text is cut there may be half a word); 0 for shorter ones."""
    ends = np.zeros((len(codes), 2), np.uint64)
    long = np.flatnonzero(np.diff(codes.starts) >= 2 * LEAST_OF_CUT - 1)
    first, last = codes.starts[long], codes.starts[long + 1] - 1
    for word in range(LEAST_OF_CUT - 1):
        for side, place in enumerate((first + 2 * word, last - 2 * word)):
            ends[long, side] = mixed(ends[long, side] + codes.flat[place])
    return ends


def blocks(texts: pa.Array) -> Iterator[pa.Array]:
    """The texts in slices of at most BLOCK texts and about BYTES bytes."""
    load = np.cumsum(np.asarray(pc.binary_length(texts), np.int64))
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(load, load[start] + BYTES, "right"))
        end = min(max(end, start + 1), start + BLOCK, len(texts))
        yield texts.slice(start, end - start)
        start = end


def candidates(sketches: Sketches) -> np.ndarray:
    """Pairs of texts, left << 32 | right with left < right, sorted, that agree in a band."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = merged(*pool.map(_in_band, sketches.bands))

        def alike(start: int) -> np.ndarray:
            pairs = found[start : start + PAIRS]
            left, right = (pairs >> _HALF).astype(np.int64), (pairs & _LOWER).astype(np.int64)
            same = sketches.values[left] == sketches.values[right]
            return pairs[np.count_nonzero(same, axis=1) >= LEAST_ALIKE * same.shape[1]]

        kept = list(pool.map(alike, range(0, len(found), PAIRS)))
    return np.concatenate([np.zeros(0, np.uint64), *kept])


def merged(*pairs: np.ndarray) -> np.ndarray:
    """All of them, sorted, each once (`np.union1d` hashes, ten times slower on such pairs)."""
    found = np.sort(np.concatenate(pairs))
    return found[np.append(True, found[1:] != found[:-1])] if len(found) else found


def _in_band(band: np.ndarray) -> np.ndarray:
    """Each text with the next WINDOW of its band, in the order of the texts."""
    keys = band.astype(np.uint64) << _HALF | np.arange(len(band), dtype=np.uint64)
    keys.sort()
    found = [np.zeros(0, np.uint64)]
    for gap in range(1, WINDOW + 1):
        same = np.flatnonzero((keys[gap:] ^ keys[:-gap]) <= _LOWER)
        if not len(same):
            break
        found.append(keys[same] << _HALF | keys[same + gap] & _LOWER)
    return np.concatenate(found)


def ragged(starts: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of all items of the lists in `which`, and where each list then starts."""
    sizes = starts[which + 1] - starts[which]
    ends = np.zeros(len(which) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return np.arange(ends[-1]) + np.repeat(starts[which] - ends[:-1], sizes), ends
