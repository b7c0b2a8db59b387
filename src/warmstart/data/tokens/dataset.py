"""Texts to token ids, kept flat: two bytes a token, no Python object a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Encoding, Tokenizer

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
        return self.offsets[1:] - self.offsets[:-1]

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

    def taken(self, rows: np.ndarray) -> TokenizedDataset:
        """These rows, with what belongs to them; each must be a whole row of the table."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        flat = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return replace(
            self, ids=self.ids[flat], offsets=offsets,
            targets=self.targets[flat if self.by_token else rows],
            types=None if self.types is None else self.types[flat],
            spans=None if self.spans is None else self.spans[flat],
            answers=None if self.answers is None else self.answers.taken(rows),
        )  # fmt: skip

    def learned(self, i: int) -> np.ndarray:
        """What row `i` itself is to teach, int64: its ids where `targets` are by token and name
        one, -100 elsewhere."""
        if not self.by_token:
            return np.full(int(self.lengths[i]), IGNORE_INDEX, np.int64)
        counts = self.targets[self.offsets[i] : self.offsets[i + 1]] != IGNORE_INDEX
        return np.where(counts, self.row(i).astype(np.int64), IGNORE_INDEX)

    def padded(self, flat: np.ndarray, rows: np.ndarray, columns: int, fill: int) -> np.ndarray:
        """Something of each token, parallel to `ids`, as int64 [rows, columns]."""
        starts, lengths = self.offsets[rows], self.lengths[rows]
        places = np.arange(columns)
        real = places < lengths[:, None]
        padded = np.full(real.shape, fill, np.int64)
        padded[real] = flat[(starts[:, None] + places)[real]]
        return padded


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where each row of so many tokens begins, and where the last one ends, int64 [rows + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def id_type(backend: Tokenizer) -> type[np.unsignedinteger[Any]]:
    """The smallest type that holds every token id."""
    vocabulary = backend.get_vocab_size(with_added_tokens=True)
    return np.uint16 if vocabulary < 1 << 16 else np.uint32


def store_of(rows: Sequence[Sequence[int]], backend: Any) -> TokenizedDataset:
    """Rows of token ids in the flat form."""
    flat = np.fromiter(chain.from_iterable(rows), id_type(backend))
    unknown = np.full(len(rows), IGNORE_INDEX, np.int64)
    return TokenizedDataset(flat, offsets_of([len(row) for row in rows]), unknown)


def joined(stores: Sequence[TokenizedDataset]) -> TokenizedDataset:
    """The rows of several stores behind one another, without targets."""
    lengths = np.concatenate([store.lengths for store in stores])
    types = None
    if any(store.types is not None for store in stores):
        types = np.concatenate(
            [np.zeros(len(s.ids), np.uint8) if s.types is None else s.types for s in stores]
        )
    ids = np.concatenate([store.ids for store in stores])
    targets = np.full(len(lengths), IGNORE_INDEX, np.int64)
    return TokenizedDataset(ids, offsets_of(lengths), targets, types=types)


def tokenise(
    texts: Iterable[str] | pa.ChunkedArray,
    tokenizer_backend: Tokenizer,
    max_length: int,
    on_cut: Callable[[int, int], None] | None = None,
    targets: np.ndarray | None = None,
) -> TokenizedDataset:
    """The token ids of the texts with special tokens, at most `max_length` each.

    A longer text is cut as the Hugging Face tokenizer with truncation=True cuts it;
    `on_cut(row, tokens)` hears what was taken away. The settings of the tokenizer are restored.
    Raises RecipeError if `max_length` has no room for text.
    """
    backend, kind = tokenizer_backend, id_type(tokenizer_backend)
    direction = (backend.truncation or {}).get("direction", "right")
    specials = backend.num_special_tokens_to_add(False)
    if max_length <= specials:
        raise RecipeError(
            f"max_length {max_length} leaves no room for text beside {specials} special tokens; "
            "raise it"
        )
    encode: Any = backend.encode_batch_fast
    ids: list[np.ndarray] = [np.empty(0, kind)]
    lengths: list[int] = []
    with uncut(backend):
        backend.enable_truncation(max_length, direction=direction)
        for chunk in _chunks(texts):
            encodings: list[Encoding] = encode(chunk)
            for row, encoding in enumerate(encodings, len(lengths)):
                if on_cut is not None and (rest := encoding.overflowing):
                    on_cut(row, sum(len(part.ids) - specials for part in rest))
            rows = [encoding.ids for encoding in encodings]
            lengths.extend(map(len, rows))
            ids.append(np.fromiter(chain.from_iterable(rows), kind))
    if targets is None:
        targets = np.full(len(lengths), IGNORE_INDEX, np.int64)
    elif len(targets) != len(lengths):
        raise ValueError(f"{len(targets)} targets for {len(lengths)} rows")
    targets = np.asarray(targets, np.int64)
    return TokenizedDataset(np.concatenate(ids), offsets_of(lengths), targets)


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
