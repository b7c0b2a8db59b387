"""A text as the prompt of a decoder, and the answer behind it, as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from warmstart.data.tokens.dataset import IGNORE_INDEX, TokenizedDataset
from warmstart.errors import BaseModelError, RecipeError


def prompted(
    texts: Sequence[str],
    answers: Sequence[str] | None,
    separator: str,
    tokenizer: Any,
    longest: int,
    most_new: int,
    on_cut: Callable[[int, int], None] | None = None,
) -> TokenizedDataset:
    """Prompts (text + separator) as `tokenizer` splits them, without an end token, and answers.

    A prompt has at most `longest` - `most_new` tokens: the text is cut, the separator stays. An
    answer begins after a space, ends with the end token, and has at most `most_new` tokens.
    Raises `BaseModelError` for a tokenizer without end token, `RecipeError` where nothing fits.
    """
    backend, end = tokenizer.backend_tokenizer, tokenizer.eos_token_id
    if end is None:
        raise BaseModelError("the tokenizer of this decoder has no end token (eos_token)")
    if not backend.encode(separator, add_special_tokens=False).ids:
        raise RecipeError(
            f"task.separator {separator!r} is no token of this tokenizer, so that the model could "
            "not see where the text ends; choose another"
        )
    wholes, rows = [f"{text}{separator}" for text in texts], list[list[int]]()
    for number, encoding in enumerate(backend.encode_batch(wholes)):
        ids = _open(encoding.ids, end)
        if (extra := len(ids) - (longest - most_new)) > 0:
            wholes[number], ids = _shorter(texts[number], separator, backend, end, extra)
            if on_cut is not None:
                on_cut(number, extra)
        rows.append(ids)
    store = store_of(rows, backend.get_vocab_size())
    if answers is None:
        return store
    targets: list[list[int]] = []
    full = backend.encode_batch([f"{a} {b}" for a, b in zip(wholes, answers, strict=True)])
    for number, (prompt, encoding) in enumerate(zip(rows, full, strict=True)):
        ids = _open(encoding.ids, end)
        own = ids[len(prompt) :]
        if ids[: len(prompt)] != prompt:  # the answer's beginning grew together with the prompt
            own = backend.encode(f" {answers[number]}", add_special_tokens=False).ids
        if (extra := len(own) + 1 - most_new) > 0 and on_cut is not None:
            on_cut(number, extra)
        targets.append([*own[: most_new - 1], end])
    return replace(store, answers=store_of(targets, backend.get_vocab_size()))


def store_of(rows: Sequence[Sequence[int]], vocabulary: int) -> TokenizedDataset:
    """Rows of token ids in the flat form."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    kind = np.uint16 if vocabulary < 1 << 16 else np.uint32
    flat = np.fromiter(chain.from_iterable(rows), kind)
    return TokenizedDataset(flat, offsets, np.full(len(rows), IGNORE_INDEX, np.int64))


def _open(ids: list[int], end: int) -> list[int]:
    """Without the end token that some tokenizers put behind every text."""
    return ids[:-1] if ids and ids[-1] == end else ids


def _shorter(
    text: str, separator: str, backend: Any, end: int, extra: int
) -> tuple[str, list[int]]:
    """The prompt of a text that lost its last `extra` tokens, or some more, and its ids."""
    ends = [last for _, last in backend.encode(text, add_special_tokens=False).offsets]
    most = len(_open(backend.encode(f"{text}{separator}").ids, end)) - extra
    while extra < len(ends):
        whole = f"{text[: ends[-1 - extra]]}{separator}"
        ids = _open(backend.encode(whole).ids, end)
        if len(ids) <= most:
            return whole, ids
        extra += len(ids) - most
    raise RecipeError(
        f"there is no room for a text: the separator and the answer fill the {most} tokens left; "
        "raise task.max_length or lower task.max_new_tokens"
    )
