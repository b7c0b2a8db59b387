"""Which texts may resemble each other: few pairs out of all, found without comparing all.

MinHash (Broder 1997) in bands: texts that agree in a whole band are candidates, unless their
signatures as a whole say that they share too little.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.tables import pc

# Words and pairs of neighbouring words as numbers, for many texts at once.
#
# A code has 48 bits: 1 says pair, 39 are a hash, 1 says that the word names something (a number or
# a single letter), 7 are its weight: the bytes of the word plus one, 127 at most; pairs weigh
# nothing.

PAIR = np.uint64(1 << 47)
NAMES = np.uint64(1 << 7)
WEIGHT = np.uint64(127)
_HASH = np.uint64(((1 << 39) - 1) << 8)
_HIGH = np.uint64(0x8080808080808080)
_KEPT = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)  # the first n of eight bytes
_LEFT, _RIGHT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Text i has `flat[starts[i]:starts[i + 1]]`: words and pairs, in the order of the text."""

    flat: np.ndarray  # uint64
    starts: np.ndarray  # int64, one more than texts

    def __len__(self) -> int:
        return len(self.starts) - 1


def bytes_of(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a large_string array without nulls, and where each text starts (int64)."""
    _, places, data = texts.buffers()
    starts = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    every = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return every[starts[0] : starts[-1]], starts - starts[0]


def mixed(numbers: np.ndarray) -> np.ndarray:
    """The same numbers with their bits well stirred (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def codes_of(texts: pa.Array) -> Codes:
    """The codes of texts whose words are parted by spaces or control characters.

    A text of n words has n words and n - 1 pairs, word and pair by turns.
    """
    data, begin = bytes_of(texts)
    if not len(data):
        return Codes(np.zeros(0, np.uint64), np.zeros(len(begin), np.int64))
    first, last = _words(data, begin)
    hashes, names = _hashes(data, first, last)
    weights = np.minimum(last - first + 2, 127).astype(np.uint64)
    names |= first == last
    words = (hashes & _HASH) | (names.astype(np.uint64) << np.uint64(7)) | weights
    at = np.searchsorted(first, begin)  # the first word of each text
    counts = np.diff(at)
    text = np.repeat(np.arange(len(counts)), counts)
    empty = np.cumsum(counts == 0)[text] if (counts == 0).any() else 0
    place = 2 * np.arange(len(first)) - (text - empty)
    starts = np.zeros(len(begin), np.int64)
    np.cumsum(np.maximum(2 * counts - 1, 0), out=starts[1:])
    flat = np.empty(starts[-1], np.uint64)
    flat[place] = words
    inner = np.flatnonzero(text[1:] == text[:-1])
    both = mixed(hashes[inner] * _LEFT + hashes[inner + 1] * _RIGHT)
    flat[place[inner] + 1] = (both & _HASH) | PAIR
    return Codes(flat, starts)


def _words(data: np.ndarray, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last byte of every word."""
    solid = np.zeros(len(data) + 2, bool)
    np.greater(data, 0x20, out=solid[1:-1])
    edge = np.zeros(len(data) + 1, bool)
    edge[begin] = True
    inside = solid[1:-1]
    first = np.flatnonzero(inside & (edge[:-1] | ~solid[:-2]))
    last = np.flatnonzero(inside & (edge[1:] | ~solid[2:]))
    return first, last


def _hashes(data: np.ndarray, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One hash for each word, eight bytes at a time, and whether the word holds a digit."""
    padded = np.append(data, np.zeros(8, np.uint8))
    eights = np.ndarray((len(data) + 1,), "<u8", padded.data, strides=(1,))
    hashes, digits = np.zeros(len(first), np.uint64), np.zeros(len(first), bool)
    which: Any = slice(None)
    at, left = first, last - first + 1
    while len(at):
        piece = eights[at].astype(np.uint64) & _KEPT[np.minimum(left, 8)]
        hashes[which] = mixed(hashes[which] * _LEFT + piece)
        turned = piece ^ np.uint64(0x3030303030303030)  # 0 to 9 in ASCII become 0 to 9
        above = ((turned & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | turned
        digits[which] |= above & _HIGH != _HIGH
        longer = np.flatnonzero(left > 8)
        which = longer if isinstance(which, slice) else which[longer]
        at, left = at[longer] + 8, left[longer] - 8
    return hashes, digits


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
    sketches = Sketches(
        np.empty((BANDS, count), np.uint32),
        np.empty((count, BANDS * ROWS), np.uint8),
        np.empty((count, 2), np.uint64),
    )
    parts = list(blocks(texts))
    starts = np.cumsum([0, *map(len, parts)]).tolist()

    def sketch(part: pa.Array, start: int) -> None:
        codes = codes_of(part)
        sketches.ends[start : start + len(part)] = _ends(codes)
        _sketch(sampled(codes), sketches, start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(sketch, parts, starts[:-1]))
    return sketches


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


def _sketch(codes: Codes, sketches: Sketches, start: int) -> None:
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
                sketches.values[rows, number] = least.astype(np.uint8)
                key = key * _STEP + least
            sketches.bands[band, rows] = key


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
        pairs = merged(*pool.map(_in_band, sketches.bands))

        def alike(start: int) -> np.ndarray:
            some = pairs[start : start + PAIRS]
            left, right = (some >> _HALF).astype(np.int64), (some & _LOWER).astype(np.int64)
            same = sketches.values[left] == sketches.values[right]
            return some[np.count_nonzero(same, axis=1) >= LEAST_ALIKE * same.shape[1]]

        kept = list(pool.map(alike, range(0, len(pairs), PAIRS)))
    return np.concatenate([np.zeros(0, np.uint64), *kept])


def merged(*pairs: np.ndarray) -> np.ndarray:
    """All of them, sorted, each once (`np.union1d` hashes, ten times slower on such pairs)."""
    every = np.sort(np.concatenate(pairs))
    return every[np.append(True, every[1:] != every[:-1])] if len(every) else every


def _in_band(band: np.ndarray) -> np.ndarray:
    """Each text with the next WINDOW of its band, in the order of the texts."""
    keys = band.astype(np.uint64) << _HALF | np.arange(len(band), dtype=np.uint64)
    keys.sort()
    pairs = [np.zeros(0, np.uint64)]
    for gap in range(1, WINDOW + 1):
        same = np.flatnonzero((keys[gap:] ^ keys[:-gap]) <= _LOWER)
        if not len(same):
            break
        pairs.append(keys[same] << _HALF | keys[same + gap] & _LOWER)
    return np.concatenate(pairs)


# Texts that are the first or the last part of another: they stand side by side once sorted.

REACH = 8  # sorted neighbours that may be the whole of a cut text
SHARE = 0.5  # of the whole text that a cut one must hold


def cut_short(texts: pa.Array, ends: np.ndarray) -> np.ndarray:
    """Pairs of texts, left << 32 | right with left < right, sorted, of which one is the begin or
    the end of the other and at least SHARE of it. `texts` are sorted by their bytes; `ends` are the
    hashes of their first and last words, 0 for a text too short to be a part."""
    heads = _repeated(ends[:, 0])
    pairs = _beginning(texts.take(pa.array(heads)), heads)
    tails = _repeated(ends[:, 1])
    turned = pc.utf8_reverse(texts.take(pa.array(tails)))
    order = np.asarray(pc.sort_indices(turned)).astype(np.int64)
    return merged(pairs, _beginning(turned.take(pa.array(order)), tails[order]))


def _repeated(hashes: np.ndarray) -> np.ndarray:
    """Where a hash stands that occurs twice or more and is not 0, ascending."""
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[inverse] > 1) & (hashes != 0))


def _beginning(texts: pa.Array, numbers: np.ndarray) -> np.ndarray:
    """The pairs of which one text begins the other; `texts` are sorted and have these numbers."""
    pairs = [np.zeros(0, np.uint64)]
    start = 0
    for block in blocks(texts):
        some = texts.slice(start, len(block) + REACH).to_pylist()
        pairs.append(_heads(some, len(block), numbers[start:]))
        start += len(block)
    return np.concatenate(pairs)


def _heads(texts: list[str], own: int, numbers: np.ndarray) -> np.ndarray:
    """The pairs whose first is among the first `own` texts."""
    pairs: list[tuple[int, int]] = []
    open_: Sequence[int] = range(own)
    for gap in range(1, REACH + 1):
        open_ = [i for i in open_ if i + gap < len(texts) and texts[i + gap].startswith(texts[i])]
        pairs += [(i, i + gap) for i in open_ if len(texts[i]) >= SHARE * len(texts[i + gap])]
    both = numbers[np.array(pairs, np.int64).reshape(-1, 2)].astype(np.uint64)
    return both.min(1) << np.uint64(32) | both.max(1)


# How much two texts resemble each other, word by word, for many pairs at once.

MEASURED_PAIRS = 1 << 14  # at a time: their numbers, and those of their texts, fit above a code
MEASURED_CODES = 1_000_000  # at a time, about
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
        end = int(np.searchsorted(load, (load[start - 1] if start else 0) + MEASURED_CODES))
        cuts.append(min(max(end, start + 1), start + MEASURED_PAIRS))

    def part(start: int, end: int) -> np.ndarray:
        return _measured(texts, left[start:end], right[start:end])

    with ThreadPoolExecutor(THREADS) as pool:
        shares = list(pool.map(part, cuts[:-1], cuts[1:]))
    return np.concatenate([np.zeros((0, 2)), *shares]).astype(np.float32)


def _measured(texts: pa.Array, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    used, sides = np.unique(np.concatenate([left, right]), return_inverse=True)
    first, second = sides[: len(left)], sides[len(left) :]
    codes = codes_of(texts.take(pa.array(used)))
    text = np.repeat(np.arange(len(codes), dtype=np.uint64), np.diff(codes.starts))
    keys = merged(text << np.uint64(48) | codes.flat)  # each text's codes once, ascending
    starts = np.searchsorted(keys, np.arange(len(used) + 1, dtype=np.uint64) << np.uint64(48))
    both = np.concatenate([_of_pairs(keys, starts, first), _of_pairs(keys, starts, second)])
    both.sort(kind="stable")  # two sorted runs: merged in linear time
    shared = _sums(both[1:][both[1:] == both[:-1]], len(left))
    whole = _sums(keys, len(used))
    (words, neighbours, lacking), (a, b) = shared, (whole[:, first], whole[:, second])
    exchanged = 2 * np.minimum(a[2] - lacking, b[2] - lacking)
    share = words / np.maximum(a[0] + b[0] - words + exchanged, 1)
    return np.stack([share, neighbours / np.maximum(a[1] + b[1] - neighbours, 1)], 1)


def _of_pairs(keys: np.ndarray, starts: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The codes of one side of the pairs, with the number of the pair above them; ascending."""
    sizes = starts[side + 1] - starts[side]
    places = np.repeat(starts[side] + sizes - np.cumsum(sizes), sizes) + np.arange(sizes.sum())
    pair = np.repeat(np.arange(len(side), dtype=np.uint64), sizes)
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
