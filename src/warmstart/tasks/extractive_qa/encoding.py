"""Question and context as token ids: a long context in several windows that overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import (
    IGNORE_INDEX,
    TokenizedDataset,
    id_type,
    offsets_of,
    uncut,
)
from warmstart.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.tasks.base import OnCut


CHUNK = 1_000  # contexts
LEAST = 4  # tokens that a window must hold of its context
OUTSIDE = -1  # position of a token that stands in no context
UNKNOWN = IGNORE_INDEX, IGNORE_INDEX
References = Sequence[Mapping[str, Any]]
"""The answers of a question, see `answers.own_form`; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tokenizer puts two texts together: its special tokens before, between and after."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]
    """Token types: before, of the first text, between, of the second, after."""
    nothing: int
    """Where "no answer" points to: 0, the first token, or -1, the last."""

    @property
    def specials(self) -> int:
        """How many tokens are neither question nor context."""
        return len(self.before) + len(self.between) + len(self.after)

    def types_of(self, question: int, context: int) -> np.ndarray:
        """The token types of a window with so many tokens of question and context."""
        before, first, between, second, after = self.types
        both = [*before, *[first] * question, *between, *[second] * context, *after]
        return np.array(both, np.uint8)


def layout_of(tokenizer: Any) -> Layout:
    """As the tokenizer's own template says.

    A tokenizer without a class token (GPT-2, Llama) parts the texts with the end-of-text token and
    ends with it: a causal model has read everything only there, so "no answer" points to it, as it
    points to a class token at the end (XLNet).
    """
    pair = tokenizer.backend_tokenizer.encode("a", "b")
    ids, types, parts = pair.ids, pair.type_ids, pair.sequence_ids
    if "token_type_ids" not in tokenizer.model_input_names:
        types = [0] * len(ids)
    first = [i for i, part in enumerate(parts) if part == 0]
    second = [i for i, part in enumerate(parts) if part == 1]
    cuts = (slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, None))
    before, between, after = (tuple(ids[cut]) for cut in cuts)
    kinds = [tuple(types[cut]) for cut in cuts]
    named = tokenizer.cls_token_id
    if named is None or named not in ids:
        end = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        if end is None:
            end = tokenizer.pad_token_id
        if not set(between) - {tokenizer.bos_token_id}:
            between, kinds[1] = (end,), (types[first[-1]],)
        if not after:
            after, kinds[2] = (end,), (types[second[-1]],)
    nothing = 0 if named is not None and named in before else -1
    both = (kinds[0], types[first[0]], kinds[1], types[second[0]], kinds[2])
    return Layout(before, between, after, both, nothing)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One text: its ids [n], and the first character and the one after the last of each [n, 2]."""

    ids: np.ndarray
    spans: np.ndarray

    def covered(self, start: int, end: int) -> tuple[int, int]:
        """The first and the last token of these characters; last < first where there is none."""
        first = int(np.searchsorted(self.spans[:, 1], start, "right"))
        return first, int(np.searchsorted(self.spans[:, 0], end, "left")) - 1


def tokens_of(texts: Sequence[str], backend: Tokenizer) -> list[Tokens]:
    """The tokens of each text, without special ones; equal texts share them."""
    distinct = list(dict.fromkeys(texts))
    tokens: dict[str, Tokens] = {}
    kind = id_type(backend)
    with uncut(backend):
        for start in range(0, len(distinct), CHUNK):
            part = distinct[start : start + CHUNK]
            encodings = backend.encode_batch(part, add_special_tokens=False)
            for text, encoding in zip(part, encodings, strict=True):
                spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
                tokens[text] = Tokens(np.array(encoding.ids, kind), spans)
    return [tokens[text] for text in texts]


def windows(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """First token and the one after the last of each window of a text of `length` tokens; two
    neighbours share `stride` tokens, or half of the room where that is less."""
    step = room - min(stride, room // 2)
    begins = range(0, max(1, length - room + step), step)
    return [(begin, min(begin + room, length)) for begin in begins]


def rooms(longest: int, layout: Layout, question: int) -> tuple[int, int]:
    """Tokens kept of a question of so many, and tokens left for the context: at least half.

    Raises `RecipeError` where there is no room for both.
    """
    room = longest - layout.specials
    if room < 2 * LEAST:
        raise RecipeError(
            f"max_length {longest} leaves {max(0, room)} tokens for question and context beside "
            f"{layout.specials} special ones; raise it"
        )
    kept = min(question, room // 2)
    return kept, room - kept


def encode(
    questions: Sequence[str],
    contexts: Sequence[str],
    references: Sequence[References | None],
    tokenizer: Any,
    longest: int,
    *,
    stride: int,
    drop: bool,
    on_cut: OnCut | None = None,
) -> TokenizedDataset:
    """One row or more of tokens for each question; `of_row` says whose they are.

    `spans` are the characters in the context, -1 for other tokens. Targets [windows, 2] are the
    first and last token of the first answer; where the window does not hold it, or there is none,
    both are the place for "no answer"; -100 where nothing is known.

    Args:
        longest: the most tokens of a window, question and special tokens included.
        stride: tokens of the context that two neighbours share.
        drop: whether windows without the answer have no target, rather than "no answer".
    """
    layout, backend = layout_of(tokenizer), tokenizer.backend_tokenizer
    kind = id_type(backend)
    before, between, after = (
        np.array(part, kind) for part in (layout.before, layout.between, layout.after)
    )
    ids: list[np.ndarray] = [np.empty(0, kind)]
    spans: list[np.ndarray] = [np.empty((0, 2), np.int32)]
    types: list[np.ndarray] = [np.empty(0, np.uint8)]
    sizes, of_row, targets = list[int](), list[int](), list[tuple[int, int]]()
    texts = tokens_of(questions, backend), tokens_of(contexts, backend)
    for row, (question, context, answers) in enumerate(zip(*texts, references, strict=True)):
        kept, room = rooms(longest, layout, len(question.ids))
        if kept < len(question.ids) and on_cut is not None:
            on_cut(row, len(question.ids) - kept)
        ahead = len(before) + kept + len(between)
        for begin, end in windows(len(context.ids), room, stride):
            size = ahead + end - begin + len(after)
            ids += [before, question.ids[:kept], between, context.ids[begin:end], after]
            outside = np.full((size, 2), OUTSIDE, np.int32)
            outside[ahead : ahead + end - begin] = context.spans[begin:end]
            spans.append(outside)
            types.append(layout.types_of(kept, end - begin))
            sizes.append(size)
            of_row.append(row)
            nothing = layout.nothing % size
            targets.append(_target(answers, context, (begin, end), ahead, nothing, drop))
    kinds = np.concatenate(types)
    return TokenizedDataset(
        np.concatenate(ids),
        offsets_of(sizes),
        np.array(targets, np.int64).reshape(-1, 2),
        types=kinds if kinds.any() else None,
        spans=np.concatenate(spans),
        of_row=np.array(of_row, np.int64),
    )


def _target(
    answers: References | None,
    context: Tokens,
    window: tuple[int, int],
    ahead: int,
    nothing: int,
    drop: bool,
) -> tuple[int, int]:
    """First and last token of the answer in a window of a context, which begins at `ahead`."""
    if not answers:
        return UNKNOWN if answers is None else (nothing, nothing)
    start, (begin, end) = answers[0]["start"], window
    first, last = context.covered(start, start + len(answers[0]["text"]))
    if first > last:
        return UNKNOWN
    if begin <= first and last < end:
        return first - begin + ahead, last - begin + ahead
    return UNKNOWN if drop else (nothing, nothing)
