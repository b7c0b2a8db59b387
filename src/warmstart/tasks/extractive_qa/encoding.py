"""Question and context as token ids: a long context in several windows that overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import IGNORE_INDEX, TokenizedDataset, uncut
from warmstart.errors import RecipeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from warmstart.tasks.base import OnCut


CHUNK = 1_000  # contexts
LEAST = 4  # tokens that a window must hold of its context
OUTSIDE = -1  # position of a token that stands in no context
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
    kind = np.uint16 if backend.get_vocab_size(with_added_tokens=True) < 1 << 16 else np.uint32
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


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The tokens `begin` to `end` of a context behind its question, and what is wanted of them."""

    row: int
    question: np.ndarray
    context: Tokens
    begin: int
    end: int
    target: tuple[int, int]


def store_of(rows: Sequence[Window], layout: Layout) -> TokenizedDataset:
    """Windows as one store; `spans` are the characters in the context, -1 for other tokens."""
    kind = rows[0].context.ids.dtype if rows else np.dtype(np.uint32)
    before, between, after = (
        np.array(part, kind) for part in (layout.before, layout.between, layout.after)
    )
    ids: list[np.ndarray] = [np.empty(0, kind)]
    spans: list[np.ndarray] = [np.empty((0, 2), np.int32)]
    types: list[np.ndarray] = [np.empty(0, np.uint8)]
    sizes = np.zeros(len(rows) + 1, np.int64)
    for number, window in enumerate(rows):
        inside = slice(window.begin, window.end)
        ids += [before, window.question, between, window.context.ids[inside], after]
        ahead = len(before) + len(window.question) + len(between)
        spans += [_outside(ahead), window.context.spans[inside], _outside(len(after))]
        types.append(_types(layout, len(window.question), window.end - window.begin))
        sizes[number + 1] = ahead + window.end - window.begin + len(after)
    kinds = np.concatenate(types)
    return TokenizedDataset(
        np.concatenate(ids),
        np.cumsum(sizes),
        np.array([window.target for window in rows], np.int64).reshape(-1, 2),
        types=kinds if kinds.any() else None,
        spans=np.concatenate(spans),
        of_row=np.array([window.row for window in rows], np.int64),
    )


def _outside(count: int) -> np.ndarray:
    return np.full((count, 2), OUTSIDE, np.int32)


def _types(layout: Layout, question: int, context: int) -> np.ndarray:
    before, first, between, second, after = layout.types
    kinds = (*before, first, *between, second, *after)
    times = [*([1] * len(before)), question, *([1] * len(between)), context, *([1] * len(after))]
    return np.repeat(np.array(kinds, np.uint8), times)


@dataclass(frozen=True, slots=True)
class Windowing:
    """How long contexts are taken apart.

    Args:
        longest: the most tokens of a window, question and special tokens included.
        stride: tokens of the context that two neighbours share.
        drop: whether windows without the answer have no target, rather than "no answer".
    """

    longest: int
    stride: int
    drop: bool


def encode(
    questions: Sequence[str],
    contexts: Sequence[str],
    references: Sequence[References | None],
    tokenizer: Any,
    how: Windowing,
    on_cut: OnCut | None,
) -> TokenizedDataset:
    """One row or more of tokens for each question; `of_row` says whose they are.

    Targets [windows, 2] are the first and last token of the first answer; where the window does not
    hold it, or there is none, both are the place for "no answer"; -100 where nothing is known.
    """
    layout, backend = layout_of(tokenizer), tokenizer.backend_tokenizer
    texts = tokens_of(questions, backend), tokens_of(contexts, backend)
    rows: list[Window] = []
    for row, (question, context, answers) in enumerate(zip(*texts, references, strict=True)):
        kept, room = rooms(how.longest, layout, len(question.ids))
        if kept < len(question.ids) and on_cut is not None:
            on_cut(row, len(question.ids) - kept)
        for begin, end in windows(len(context.ids), room, how.stride):
            window = Window(
                row, question.ids[:kept], context, begin, end, (IGNORE_INDEX, IGNORE_INDEX)
            )
            rows.append(replace(window, target=_target(window, layout, answers, how.drop)))
    return store_of(rows, layout)


def _target(
    window: Window, layout: Layout, references: References | None, drop: bool
) -> tuple[int, int]:
    """First and last token of the answer in a window."""
    if references is None:
        return IGNORE_INDEX, IGNORE_INDEX
    ahead = len(layout.before) + len(window.question) + len(layout.between)
    size = ahead + window.end - window.begin + len(layout.after)
    nothing = layout.nothing % size
    if not references:
        return nothing, nothing
    start, text = references[0]["start"], references[0]["text"]
    first, last = window.context.covered(start, start + len(text))
    if first > last:
        return IGNORE_INDEX, IGNORE_INDEX
    if window.begin <= first and last < window.end:
        return first - window.begin + ahead, last - window.begin + ahead
    return (IGNORE_INDEX, IGNORE_INDEX) if drop else (nothing, nothing)
