"""Two texts to one row of token ids, put together as the tokenizer's own template for pairs does.

A tokenizer without such a template (GPT-2, Qwen) would leave nothing between the two texts. There
the separator or end-of-text token stands between them, which parts documents in pretraining too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from warmstart.data.tokens.dataset import CHUNK, IGNORE_INDEX, TokenizedDataset, uncut
from warmstart.errors import RecipeError

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
    tokenizer's `truncation_side`; `on_cut(row, tokens)` is told what was taken away. The settings
    of the tokenizer are restored. Raises `RecipeError` if `max_length` has no room for two texts.
    """
    between, backend = separator(tokenizer), tokenizer.backend_tokenizer
    longest = _room(backend, max_length, between)
    ids: list[int] = []
    types: list[int] = []
    lengths: list[int] = []
    with uncut(backend):
        for start in range(0, len(first), CHUNK):
            here = slice(start, start + CHUNK)
            texts = [_filled(pair) for pair in zip(first[here], second[here], strict=True)]
            for encoding in _encoded(tokenizer, texts, longest, on_cut, start):
                found = encoding.ids
                if between is not None:
                    place = encoding.sequence_ids.count(0)
                    found = [*found[:place], between, *found[place:]]
                else:
                    types.extend(encoding.type_ids)
                ids.extend(found)
                lengths.append(len(found))
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    small = backend.get_vocab_size(with_added_tokens=True) < 1 << 16
    return TokenizedDataset(
        np.array(ids, np.uint16 if small else np.uint32),
        offsets,
        np.full(len(lengths), IGNORE_INDEX, np.int64) if targets is None else targets,
        types=_types(types, tokenizer),
    )


def separator(tokenizer: Any) -> int | None:
    """The token that has to be put between two texts, or None where the template has its own.

    Raises `RecipeError` where the tokenizer has no token that could stand there.
    """
    backend = tokenizer.backend_tokenizer
    alone, together = (backend.num_special_tokens_to_add(pair) for pair in (False, True))
    if together > alone:
        return None
    for token in (tokenizer.sep_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise RecipeError("the base's tokenizer has no token that could part two texts; take another")


def _room(backend: Any, max_length: int, between: int | None) -> int:
    """How long the template may make a pair."""
    longest = max_length - (between is not None)
    specials = backend.num_special_tokens_to_add(True)
    if longest < specials + 2:
        raise RecipeError(
            f"max_length {max_length} leaves no room for two texts beside "
            f"{max_length - longest + specials} special tokens; raise it"
        )
    return longest


def _encoded(
    tokenizer: Any,
    texts: list[tuple[str, str]],
    longest: int,
    on_cut: Callable[[int, int], None] | None,
    start: int,
) -> list[Any]:
    """The encodings of pairs, those that were too long cut; `start` is the first one's number."""
    backend = tokenizer.backend_tokenizer
    found = list(backend.encode_batch(texts))
    long = [row for row, encoding in enumerate(found) if len(encoding.ids) > longest]
    if not long:
        return found
    backend.enable_truncation(
        longest, strategy="longest_first", direction=tokenizer.truncation_side
    )
    shorter = backend.encode_batch([texts[row] for row in long])
    backend.no_truncation()
    for row, encoding in zip(long, shorter, strict=True):
        if on_cut is not None:
            on_cut(start + row, len(found[row].ids) - len(encoding.ids))
        found[row] = encoding
    return found


def _types(types: list[int], tokenizer: Any) -> np.ndarray | None:
    """The token types where the model has some to tell apart; XLNet's tokenizer keeps quiet of
    them, though its template has them."""
    highest = max(types, default=0)
    told = "token_type_ids" in tokenizer.model_input_names or highest >= XLNET_TYPE
    return np.array(types, np.uint8) if told and highest else None


def _filled(pair: tuple[str | None, str | None]) -> tuple[str, str]:
    return pair[0] or "", pair[1] or ""
