"""Plain ASCII texts in lower case, without punctuation, words parted by one space: many at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.data.near_words import bytes_of

PUNCTUATION = '!"#%&()*,-./:;?@[\\]_{}'
SILENT = b"'`"  # goes without a trace: what's = whats
_SPACE = 0x20
_PARTING = {*map(ord, PUNCTUATION), *range(0x09, 0x0E), *range(0x1C, 0x20)}
_TABLE = bytes(
    _SPACE if code in _PARTING else ord(chr(code).lower()) if code < 0x80 else code
    for code in range(0x100)
)


def swept(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The texts swept, and which of them must be looked at one by one: those with characters
    beyond ASCII or a null character, and those of which nothing is left.

    `texts` is a large_string array without nulls, and so is what comes back.
    """
    data, starts = bytes_of(texts)
    odd = ~np.asarray(pc.string_is_ascii(texts))
    odd[np.searchsorted(starts, np.flatnonzero(data == 0), "right") - 1] = True
    silent = np.flatnonzero((data == ord("'")) | (data == ord("`")))
    clean = data.tobytes().translate(_TABLE, SILENT)
    spaced = pc.ascii_trim(_texts(clean, starts - np.searchsorted(silent, starts)), " ")
    data, starts = bytes_of(spaced)
    kept = data != _SPACE
    kept[:-1] |= kept[1:]  # the last space before a word: no text begins or ends with one
    found = _texts(data[kept], starts - np.searchsorted(np.flatnonzero(~kept), starts))
    lengths = np.asarray(pc.binary_length(found)), np.asarray(pc.binary_length(texts))
    return found, odd | ((lengths[0] == 0) & (lengths[1] > 0))


def _texts(data: bytes | np.ndarray, starts: np.ndarray) -> pa.Array:
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(starts) - 1, buffers)
