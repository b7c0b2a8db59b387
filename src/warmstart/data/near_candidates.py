"""Which texts may resemble each other: few pairs out of all, found without comparing all.

MinHash signatures (rensa: fast similarity sketching, Dahlgaard et al. 2017) in bands: texts that
agree in a whole band are candidates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.near_words import Codes, codes_of, mixed

ROWS, BANDS, ROUNDS = 5, 5, 4  # 100 values: of pairs with Jaccard 0.7 97 % are candidates
MOST_CODES = 512  # of one text; of a longer one a fixed share is drawn by hash
WINDOW = 4  # neighbours in a band that are compared: time stays linear in large families
LEAST_OF_CUT = 12  # words that a part of another text must have
BLOCK, BYTES = 50_000, 2_000_000  # texts, and bytes, at a time
THREADS = min(4, os.cpu_count() or 1)
LISTS = 4_000  # signatures at a time that become Python lists
_SEED = 0x5EED

Step = Callable[[int], None]


def sampled_codes(texts: pa.Array) -> tuple[Codes, np.ndarray]:
    """The codes of all texts, at most about MOST_CODES of each, drawn alike in texts alike; and
    their ends (see `_ends`), uint64 [texts, 2]."""
    flat = np.empty(pc.sum(pc.binary_length(texts)).as_py() or 0, np.uint64)
    sizes, ends, at = [np.zeros(1, np.int64)], [np.zeros((0, 2), np.uint64)], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for codes, size, end in pool.map(_sampled, blocks(texts)):
            flat[at : at + len(codes)] = codes  # less than one a byte, so that there is room
            at += len(codes)
            sizes.append(size)
            ends.append(end)
    return Codes(flat[:at], np.cumsum(np.concatenate(sizes))), np.concatenate(ends)


def _sampled(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes, how many there are of each text, and the ends."""
    codes = codes_of(texts)
    ends = _ends(codes)
    flat, size = mixed(codes.flat), np.diff(codes.starts)
    if size.max(initial=0) > MOST_CODES:
        limit = np.minimum(MOST_CODES / np.maximum(size, 1), 1.0)
        text = np.repeat(np.arange(len(size)), size)
        kept = (flat >> np.uint64(11)) * 2.0**-53 < limit[text]
        flat, size = flat[kept], np.bincount(text[kept], minlength=len(size))
    return flat, size, ends


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


def by_signature(codes: Codes, step: Step) -> np.ndarray:
    """Pairs of texts, left << 32 | right with left < right, sorted, that agree in a band."""
    found = np.zeros(0, np.uint64)
    for number in range(ROUNDS):
        suspects = _sharing(codes, _SEED + number)
        pairs = _in_bands(suspects, _signatures(_taken(codes, suspects), _SEED + number))
        found = np.union1d(found, pairs)
        step(number + 1)
    return found


def _matrix(codes: Codes, seed: int) -> Any:
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]

    starts = codes.starts.astype(np.uint64)
    make: Any = RMinHash.digest_matrix_from_flat_token_hashes
    return make(codes.flat, starts, ROWS * BANDS, seed)


def _sharing(codes: Codes, seed: int) -> np.ndarray:
    """The texts that share a band with another one."""
    from rensa import RMinHashLSH  # pyright: ignore[reportAttributeAccessIssue]

    index: Any = RMinHashLSH(threshold=0.5, num_perm=ROWS * BANDS, num_bands=BANDS)
    flags = index.query_duplicate_flags_matrix_one_shot(_matrix(codes, seed))
    return np.flatnonzero(np.fromiter(flags, bool, len(flags)))


def _taken(codes: Codes, texts: np.ndarray) -> Codes:
    """The codes of some of the texts."""
    places, starts = ragged(codes.starts, texts)
    return Codes(codes.flat[places], starts)


def ragged(starts: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of all items of the lists in `which`, and where each list then starts."""
    sizes = starts[which + 1] - starts[which]
    ends = np.zeros(len(which) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return np.arange(ends[-1]) + np.repeat(starts[which] - ends[:-1], sizes), ends


def _signatures(codes: Codes, seed: int) -> np.ndarray:
    """One hash for each text and band, uint64 [texts, BANDS]."""
    weights = mixed(np.arange(1, ROWS + 1, dtype=np.uint64)) | np.uint64(1)
    parts = [np.zeros((0, BANDS), np.uint64)]
    for start in range(0, len(codes), LISTS):
        starts = codes.starts[start : start + LISTS + 1]
        some = Codes(codes.flat[starts[0] : starts[-1]], starts - starts[0])
        rows = np.array(_matrix(some, seed).to_rows(), np.uint64)
        parts.append((rows.reshape(len(rows), BANDS, ROWS) * weights).sum(2))
    return np.concatenate(parts)


def _in_bands(texts: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Each text with the next WINDOW of its band, in the order of the texts."""
    found = [np.zeros(0, np.uint64)]
    for band in signatures.T:
        order = np.argsort(band, kind="stable")
        keys, sorted_texts = band[order], texts[order].astype(np.uint64)
        for gap in range(1, WINDOW + 1):
            same = np.flatnonzero(keys[gap:] == keys[:-gap])
            if not len(same):
                break
            found.append(sorted_texts[same] << np.uint64(32) | sorted_texts[same + gap])
    return np.unique(np.concatenate(found))
