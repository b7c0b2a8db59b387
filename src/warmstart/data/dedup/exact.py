"""Which texts are the same but for case, punctuation and spacing that carry no meaning."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from warmstart.data.dedup.minhash import THREADS, blocks, bytes_of
from warmstart.data.tables import pc

# Plain ASCII texts in lower case, without punctuation, words parted by one space: many at once.

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
    spaced = pc.ascii_trim(_raw_texts(clean, starts - np.searchsorted(silent, starts)), " ")
    data, starts = bytes_of(spaced)
    kept = data != _SPACE
    kept[:-1] |= kept[1:]  # the last space before a word: no text begins or ends with one
    bare = _raw_texts(data[kept], starts - np.searchsorted(np.flatnonzero(~kept), starts))
    lengths = np.asarray(pc.binary_length(bare)), np.asarray(pc.binary_length(texts))
    return bare, odd | ((lengths[0] == 0) & (lengths[1] > 0))


def _raw_texts(data: bytes | np.ndarray, starts: np.ndarray) -> pa.Array:
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(starts) - 1, buffers)


def _any_of(signs: str) -> re.Pattern[str]:
    return re.compile(f"[{re.escape(signs)}]+")


@functools.cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Apostrophes and invisible characters, which go; punctuation, which parts words (both of the
    basic plane)."""
    gone, parting = list("'\u2018\u2019`"), []
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        if category == "Cf" or 0xFE00 <= code <= 0xFE0F:
            gone.append(chr(code))
        elif category[0] == "P" and chr(code) not in gone:
            parting.append(chr(code))
    return _any_of("".join(gone)), _any_of("".join(parting))


_ASCII_PUNCTUATION = _any_of(PUNCTUATION)

# Punctuation that carries meaning stays: faces, signs and parts of numbers, C#. While the rest goes
# it stands as control characters. The pattern begins with one set of signs, and looks around from
# there: so it is quick.

_FACE = r"(?<=[:;=])['’]?[-–]?[()\[\]|]+(?!\w)|(?<=\()(?<!\w\()['-]?[:;=](?!\w)"
_FACE += r"|(?<=[:;=])(?<![\w:;=].)[-–]?[DPpOo3/\\*](?!\w)"
_NUMBER = r"(?<=[-–])(?<!\w.)(?=[.,]?\d)|(?<=\d%)|(?<=\d[.,:/–-])(?=\d)|(?<=\b[A-Za-z]#)(?!\w)"
_MEANT = re.compile(rf"[:;=(.,/%#–-](?:(?P<face>{_FACE})|{_NUMBER})")
_PER_CENT = re.compile(r"(?<=\d)\s+%")
_MAY_BE_MEANT = (
    r"[:;=]['-]?[-()\[\]|DPpOo3/\\*]|\(['-]?[:;=]|[0-9]\s*[%.,:/-]|-[.,]?[0-9]|[A-Za-z]#"
)
"""All ASCII texts that `_MEANT` finds something in, and some others: Arrow's patterns are simpler.
"""
_SIGNS = ":;=-()[]|.,/%#\\*'"
_CODES = [*range(1, 9), *range(0x0E, 0x17)]
_HIDE = {**dict(zip(map(ord, _SIGNS), _CODES, strict=True)), ord("–"): 4, ord("’"): _CODES[-1]}
_SHOW = dict(zip(_CODES, _SIGNS, strict=True))


def _hidden(match: re.Match[str]) -> str:
    """What a match of `_MEANT` is while punctuation is taken out."""
    moved = match.group().translate(_HIDE)
    return f" {moved} " if match["face"] is not None else moved


def normalised(text: str) -> str:
    """The text in NFKC and folded case, each run of punctuation and spaces as one space.

    Apostrophes go without a trace (what's = whats); symbols and emoji stay, and what carries
    meaning: `:)`, the signs and separators of numbers (-5, 1.5, 10 %), C#. A text of nothing but
    punctuation keeps it.
    """
    plain = text.isascii()
    text = text if plain else unicodedata.normalize("NFKC", text)
    text, meant = _MEANT.subn(_hidden, _PER_CENT.sub("%", text) if "%" in text else text)
    if plain:
        folded = text.lower()
        words = _ASCII_PUNCTUATION.sub(" ", folded.replace("'", "").replace("`", "")).split()
    else:
        folded = text.casefold()
        gone, parting = _patterns()
        words = parting.sub(" ", gone.sub("", folded)).split()
    bare = " ".join(words or folded.split())
    return bare.translate(_SHOW) if meant else bare


def all_normalised(texts: list[str]) -> list[str]:
    """`normalised` of each."""
    return _normal(pa.array(texts, pa.large_string())).to_pylist()


def _normal(texts: pa.Array) -> pa.Array:
    """`normalised` of each: plain ASCII in one sweep, the others one by one."""
    clean, odd = swept(texts)
    odd |= np.asarray(pc.match_substring_regex(texts, _MAY_BE_MEANT))
    if not odd.any():
        return clean
    others = [normalised(text) for text in texts.filter(pa.array(odd)).to_pylist()]
    return pc.replace_with_mask(clean, pa.array(odd), pa.array(others, pa.large_string()))


def normal_texts(table: pa.Table, roles: Sequence[str]) -> pa.ChunkedArray:
    """The normalised texts of each row in `roles`, joined by the unit separator; large_string."""
    with ThreadPoolExecutor(THREADS) as pool:
        parts = [pool.map(_normal, blocks(_texts(table[role]))) for role in roles]
        columns = [pa.chunked_array(part, pa.large_string()) for part in parts]
    if len(columns) == 1:
        return columns[0]
    separator = pa.scalar("\x1f", pa.large_string())
    rows = [column.combine_chunks() for column in columns]
    joined: pa.Array = pc.binary_join_element_wise(*rows, separator)
    return pa.chunked_array([joined], pa.large_string())


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """The values as text, empty where there are none: large_string without nulls."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        values = ["" if value is None else str(value) for value in column.to_pylist()]
        return pa.array(values, pa.large_string())
    texts = column.cast(pa.large_string()).combine_chunks()
    return pc.fill_null(texts, "") if texts.null_count else texts


def text_keys(table: pa.Table, roles: Sequence[str]) -> np.ndarray:
    """One int64 for each row: the hash of its normalised texts in `roles`."""
    return hashed(normal_texts(table, roles))


def hashed(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """One int64 for each text: 8 bytes of its BLAKE2b."""
    digests = bytearray()
    for start in range(0, len(texts), 10_000):
        for text in texts.slice(start, 10_000).to_pylist():
            digests += hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.frombuffer(bytes(digests), "<i8").astype(np.int64)
