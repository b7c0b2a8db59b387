"""Texts to token ids, kept flat: two bytes a token, no Python object a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

CHUNK = 2_000  # rows
IGNORE_INDEX = -100  # a target that counts nothing, as torch's losses have it


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedDataset:
    """The token ids of one split.

    `ids` are all rows one after the other; row i is ids[offsets[i]:offsets[i + 1]]. `targets` is
    what the task made of the labels: one entry a row, [n, ...], or, where `by_token`, one int64 a
    token, parallel to `ids`; -100 where there is none. A text longer than the model may stand here
    as several windows: `of_row` then gives the row of the table that each belongs to.
    """

    ids: np.ndarray
    offsets: np.ndarray
    targets: np.ndarray
    by_token: bool = False
    types: np.ndarray | None = None
    """The token type (0: first text, 1: second) of each token, uint8; None: all 0."""
    spans: np.ndarray | None = None
    """First character and the one after the last, of each token [tokens, 2] in its own text."""
    of_row: np.ndarray | None = None
    answers: TokenizedDataset | None = None
    """The token ids of the texts to be written, one row for each row here."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each row, int64."""
        return np.diff(self.offsets)

    @property
    def sizes(self) -> np.ndarray:
        """Tokens that are computed for each row, int64: its own and those of its answer."""
        return self.lengths if self.answers is None else self.lengths + self.answers.lengths

    @property
    def taught(self) -> np.ndarray:
        """The rows that have a target to learn from, int64."""
        if self.by_token or self.answers is not None or self.targets.dtype.kind != "i":
            return np.arange(len(self))
        return np.flatnonzero((self.targets.reshape(len(self), -1) != IGNORE_INDEX).any(1))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> np.ndarray:
        """The token ids of row `i`, a view."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def padded(self, flat: np.ndarray, rows: np.ndarray, columns: int, fill: int) -> np.ndarray:
        """Something of each token, parallel to `ids`, as int64 [rows, columns]."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        places = np.arange(columns)
        real = places < lengths[:, None]
        found = np.full(real.shape, fill, np.int64)
        found[real] = flat[(starts[:, None] + places)[real]]
        return found


def joined(stores: Sequence[TokenizedDataset]) -> TokenizedDataset:
    """The rows of several stores behind one another, without targets."""
    lengths = np.concatenate([store.lengths for store in stores])
    types = None
    if any(store.types is not None for store in stores):
        types = np.concatenate(
            [np.zeros(len(s.ids), np.uint8) if s.types is None else s.types for s in stores]
        )
    return TokenizedDataset(
        np.concatenate([store.ids for store in stores]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.full(len(lengths), IGNORE_INDEX, np.int64),
        types=types,
    )


def tokenise(
    texts: Iterable[str] | pa.ChunkedArray,
    tokenizer_backend: Tokenizer,
    max_length: int,
    on_cut: Callable[[int, int], None] | None = None,
    targets: np.ndarray | None = None,
) -> TokenizedDataset:
    """The token ids of the texts with special tokens, at most `max_length` each.

    A longer text is cut as the Hugging Face tokenizer with truncation=True cuts it: the special
    tokens at both ends stay. `on_cut(row, tokens)` is told what was taken away. The settings of
    the tokenizer are restored. Raises RecipeError if `max_length` has no room for text.
    """
    truncation = tokenizer_backend.truncation
    from_left = bool(truncation) and truncation.get("direction") == "left"
    ids: list[np.ndarray] = []
    lengths: list[int] = []
    kind = _smallest(tokenizer_backend.get_vocab_size(with_added_tokens=True))
    with uncut(tokenizer_backend):
        before, after = _specials(tokenizer_backend, max_length)
        for chunk in _chunks(texts):
            rows = _encode(tokenizer_backend, chunk)
            for i, row in enumerate(rows):
                if (extra := len(row) - max_length) > 0:
                    start = before if from_left else len(row) - after - extra
                    rows[i] = row[:start] + row[start + extra :]
                    if on_cut is not None:
                        on_cut(len(lengths) + i, extra)
            lengths.extend(map(len, rows))
            ids.append(np.fromiter(chain.from_iterable(rows), kind))
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = np.concatenate(ids) if ids else np.empty(0, kind)
    return TokenizedDataset(flat, offsets, _targets(targets, len(lengths)))


@contextmanager
def uncut(backend: Tokenizer) -> Iterator[None]:
    """The tokenizer without cutting and padding, which are given back at the end."""
    truncation, padding = backend.truncation, backend.padding
    backend.no_truncation()
    backend.no_padding()
    try:
        yield
    finally:
        if truncation:
            backend.enable_truncation(**truncation)
        if padding:
            backend.enable_padding(**padding)


def _specials(backend: Tokenizer, max_length: int) -> tuple[int, int]:
    """How many special tokens stand before and after a text."""
    mask = backend.encode("a").special_tokens_mask
    text = [i for i, special in enumerate(mask) if not special] or [len(mask) - 1]
    before, after = text[0], len(mask) - 1 - text[-1]
    if max_length <= before + after:
        raise RecipeError(
            f"max_length {max_length} leaves no room for text beside {before + after} special "
            "tokens; raise it"
        )
    return before, after


def _encode(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    encode: Any = getattr(backend, "encode_batch_fast", backend.encode_batch)
    return [encoding.ids for encoding in encode(texts)]


def _chunks(texts: Iterable[str] | pa.ChunkedArray) -> Iterator[list[str]]:
    """The texts in lists of CHUNK; Arrow arrays are turned into strings list by list."""
    arrays: Any = getattr(texts, "chunks", None)
    if arrays is not None:
        for array in arrays:
            for start in range(0, len(array), CHUNK):
                yield array.slice(start, CHUNK).to_pylist()
        return
    rows = iter(texts)
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _smallest(vocabulary: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if vocabulary < 1 << 16 else np.uint32


def _targets(targets: np.ndarray | None, rows: int) -> np.ndarray:
    if targets is None:
        return np.full(rows, IGNORE_INDEX, np.int64)
    if len(targets) != rows:
        raise ValueError(f"{len(targets)} targets for {rows} rows")
    return np.asarray(targets, np.int64)
