"""Words and pairs of neighbouring words as numbers, for many texts at once.

A code has 48 bits: 1 says pair, 39 are a hash, 1 says that the word names something (a number or a
single letter), 7 are its weight: the bytes of the word plus one, 127 at most; pairs weigh nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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
        digits[which] |= _with_digit(piece)
        longer = np.flatnonzero(left > 8)
        which = longer if isinstance(which, slice) else which[longer]
        at, left = at[longer] + 8, left[longer] - 8
    return hashes, digits


def _with_digit(piece: np.ndarray) -> np.ndarray:
    """Whether one of the eight bytes is 0 to 9 in ASCII."""
    turned = piece ^ np.uint64(0x3030303030303030)
    above = ((turned & np.uint64(0x7F7F7F7F7F7F7F7F)) + np.uint64(0x7676767676767676)) | turned
    return above & _HIGH != _HIGH
