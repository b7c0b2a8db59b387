"""Two texts as one row of token ids, and a long text as several rows that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import (
    CHUNK,
    IGNORE_INDEX,
    TokenizedDataset,
    id_type,
    offsets_of,
    uncut,
)
from warmstart.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

XLNET_TYPE = 2  # of its last token: no other template has a third type


def tokenise_pairs(
    first: Sequence[str | None],
    second: Sequence[str | None],
    tokenizer: Any,
    max_length: int,
    on_cut: Callable[[int, int], None] | None = None,
    targets: np.ndarray | None = None,
) -> TokenizedDataset:
    """The token ids of n pairs, at most `max_length` each, with token types where the model reads
    them.

    A pair that is too long is cut as `truncation="longest_first"` of transformers cuts it, on the
    tokenizer's `truncation_side`; `on_cut(row, tokens)` hears what was taken away. The settings
    of the tokenizer are restored. Raises `RecipeError` if `max_length` has no room for two texts.
    """
    between, backend = separator(tokenizer), tokenizer.backend_tokenizer
    longest = max_length - (between is not None)  # of what the template makes
    specials = backend.num_special_tokens_to_add(True)
    if longest < specials + 2:
        raise RecipeError(
            f"max_length {max_length} leaves no room for two texts beside "
            f"{max_length - longest + specials} special tokens; raise it"
        )
    ids: list[int] = []
    types: list[int] = []
    lengths: list[int] = []
    with uncut(backend):
        for start in range(0, len(first), CHUNK):
            here = slice(start, start + CHUNK)
            pairs = zip(first[here], second[here], strict=True)
            texts = [(a or "", b or "") for a, b in pairs]
            encodings: list[Encoding] = list(backend.encode_batch(texts))
            long = [i for i, encoding in enumerate(encodings) if len(encoding.ids) > longest]
            backend.enable_truncation(
                longest, strategy="longest_first", direction=tokenizer.truncation_side
            )
            shorter = backend.encode_batch([texts[i] for i in long])
            backend.no_truncation()
            for i, encoding in zip(long, shorter, strict=True):
                if on_cut is not None:
                    on_cut(start + i, len(encodings[i].ids) - len(encoding.ids))
                encodings[i] = encoding
            for encoding in encodings:
                row = encoding.ids
                if between is not None:
                    place = encoding.sequence_ids.count(0)
                    row = [*row[:place], between, *row[place:]]
                else:
                    types.extend(encoding.type_ids)
                ids.extend(row)
                lengths.append(len(row))
    if targets is None:
        targets = np.full(len(lengths), IGNORE_INDEX, np.int64)
    highest = max(types, default=0)  # XLNet's tokenizer does not name its types
    read = "token_type_ids" in tokenizer.model_input_names or highest >= XLNET_TYPE
    kinds = np.array(types, np.uint8) if read and highest else None
    flat = np.array(ids, id_type(backend))
    return TokenizedDataset(flat, offsets_of(lengths), targets, types=kinds)


def separator(tokenizer: Any) -> int | None:
    """The token that has to be put between two texts, or None where the template has its own.

    A tokenizer without a template for pairs (GPT-2, Qwen) would leave nothing between them: the
    separator or end-of-text token stands there, which parts documents in pretraining too. Raises
    `RecipeError` where the tokenizer has neither.
    """
    backend = tokenizer.backend_tokenizer
    alone, together = (backend.num_special_tokens_to_add(pair) for pair in (False, True))
    if together > alone:
        return None
    for token in (tokenizer.sep_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise RecipeError("the base's tokenizer has no token that could part two texts; take another")


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
    kind = id_type(backend)
    ids: list[np.ndarray] = [np.empty(0, kind)]
    spans: list[np.ndarray] = [np.empty((0, 2), np.int32)]
    rows: list[int] = []
    rest, number = iter(texts), 0
    with uncut(backend):
        while chunk := list(islice(rest, CHUNK)):
            for text, encoding in zip(chunk, backend.encode_batch(chunk), strict=True):
                for window_ids, window_spans in _windows(text, encoding, longest, stride):
                    ids.append(window_ids.astype(kind))
                    spans.append(window_spans)
                    rows.append(number)
                number += 1
    flat = np.concatenate(ids)
    return TokenizedDataset(
        flat,
        offsets_of([len(window) for window in ids[1:]]),
        np.full(len(flat), IGNORE_INDEX, np.int64),
        by_token=True,
        spans=np.concatenate(spans),
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
    ids, spans = np.array(encoding.ids, np.int64), _spans(text, encoding)
    mask: Sequence[int] = encoding.special_tokens_mask
    before, after = (len(mask), 0) if all(mask) else (mask.index(0), mask[::-1].index(0))
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
        return [(ids, spans)]
    head, body, tail = np.split(np.arange(len(ids)), [before, len(ids) - after])
    starts = window_starts(tokens, room, shared)
    owner = owners(tokens, starts, room)
    windows: list[tuple[np.ndarray, np.ndarray]] = []
    for number, start in enumerate(starts):
        places = np.concatenate([head, body[start : start + room], tail])
        own = spans[places].copy()
        own[before : before + room][owner[start : start + room] != number] = 0
        windows.append((ids[places], own))
    return windows


def _spans(text: str, encoding: Encoding) -> np.ndarray:
    """First character and the one after the last of each token, [tokens, 2]; empty for special
    ones and for those that are nothing but whitespace."""
    spans: list[tuple[int, int]] = []
    for (start, end), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        while not special and start < end and text[start].isspace():
            start += 1
        spans.append((start, end) if start < end and not special else (0, 0))
    return np.array(spans, np.int32).reshape(-1, 2)
