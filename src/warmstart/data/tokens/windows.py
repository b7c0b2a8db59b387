"""Texts to token ids with their places in the text; a long text as several windows that overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import CHUNK, IGNORE_INDEX, TokenizedDataset, uncut
from warmstart.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


def tokenise_windows(
    texts: Iterable[str], backend: Tokenizer, longest: int, stride: int | None = None
) -> TokenizedDataset:
    """Every text whole, in windows of at most `longest` tokens, special ones counted.

    Windows of one text are about evenly spaced and share at least `stride` tokens (unset: a
    quarter of what a window holds). `spans` of the store are the characters of each token, leading
    whitespace left out, as the text has them; they are empty for special tokens and, where windows
    overlap, for tokens that have more context in the other window: so the tokens with a span,
    one after the other, are the text exactly once. `targets` are all -100, one a token.
    Raises RecipeError where `longest` or `stride` leave no room.
    """
    kind = np.uint16 if backend.get_vocab_size(with_added_tokens=True) < 1 << 16 else np.uint32
    ids: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    lengths: list[int] = []
    rows: list[int] = []
    rest = iter(texts)
    number = 0
    with uncut(backend):
        while chunk := list(islice(rest, CHUNK)):
            for text, encoding in zip(chunk, backend.encode_batch(chunk), strict=True):
                for window in _windows(text, encoding, longest, stride):
                    ids.append(window[0].astype(kind))
                    spans.append(window[1])
                    lengths.append(len(window[0]))
                    rows.append(number)
                number += 1
    flat = np.concatenate(ids) if ids else np.empty(0, kind)
    return TokenizedDataset(
        flat,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.full(len(flat), IGNORE_INDEX, np.int64),
        by_token=True,
        spans=np.concatenate(spans) if spans else np.empty((0, 2), np.int32),
        of_row=np.array(rows, np.int64),
    )


def window_starts(tokens: int, room: int, stride: int) -> np.ndarray:
    """Where the windows of a text begin that hold `room` tokens each and share `stride`."""
    if tokens <= room:
        return np.zeros(1, np.int64)
    count = -(-(tokens - stride) // (room - stride))
    return np.linspace(0, tokens - room, count).astype(np.int64)


def owners(tokens: int, starts: np.ndarray, room: int) -> np.ndarray:
    """The window in which each token stands farthest from an edge that is none of the text's."""
    middles = (starts[:-1] + room - 1 + starts[1:]) / 2
    return np.searchsorted(middles, np.arange(tokens))


def _windows(
    text: str, encoding: Encoding, longest: int, stride: int | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids and spans of the windows of one text."""
    ids, places = np.array(encoding.ids, np.int64), _places(text, encoding)
    before, after = _specials(encoding)
    room, tokens = longest - before - after, len(ids) - before - after
    if room < 1:
        raise RecipeError(
            f"max_length {longest} leaves no room for text beside {before + after} special "
            "tokens; raise it"
        )
    shared = room // 4 if stride is None else stride
    if shared >= room:
        raise RecipeError(
            f"task.stride {shared} leaves a window of {room} tokens nothing of its own; take at "
            f"most {room // 2}"
        )
    if tokens <= room:
        return [(ids, places)]
    head, body, tail = np.split(np.arange(len(ids)), [before, len(ids) - after])
    starts = window_starts(tokens, room, shared)
    own = owners(tokens, starts, room)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for number, start in enumerate(starts):
        here = body[start : start + room]
        taken = np.concatenate([head, here, tail])
        mine = places[taken].copy()
        mine[before : before + room][own[start : start + room] != number] = 0
        found.append((ids[taken], mine))
    return found


def _places(text: str, encoding: Any) -> np.ndarray:
    """First character and the one after the last of each token, [tokens, 2]; empty for special
    ones and for those that are nothing but whitespace."""
    places = [
        (0, 0) if special else _trimmed(text, *place)
        for place, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    return np.array(places, np.int32).reshape(-1, 2)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    return (start, end) if start < end else (0, 0)


def _specials(encoding: Any) -> tuple[int, int]:
    """How many special tokens stand before and after the text."""
    mask: Sequence[int] = encoding.special_tokens_mask
    if all(mask):
        return len(mask), 0
    return mask.index(0), mask[::-1].index(0)
