"""Questions, contexts and answers as windows of token ids with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmstart.tasks._passages import Layout, Window, layout_of, rooms, store_of, tokens_of, windows

if TYPE_CHECKING:
    from warmstart.data.tokens import TokenStore
    from warmstart.tasks._passages import Tokens
    from warmstart.tasks.base import OnCut

IGNORED = -100
Golds = Sequence[Mapping[str, Any]]
"""The answers of a question, see `_golds.own_form`; empty: there is none."""


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
    golds: Sequence[Golds | None],
    tokenizer: Any,
    how: Windowing,
    on_cut: OnCut | None,
) -> TokenStore:
    """One row or more of tokens for each question; `of_row` says whose they are.

    Targets [windows, 2] are the first and last token of the first gold; where the window does not
    hold it, or there is none, both are the place for "no answer"; -100 where nothing is known.
    """
    layout, backend = layout_of(tokenizer), tokenizer.backend_tokenizer
    asked, read = tokens_of(questions, backend), tokens_of(contexts, backend)
    found: list[Window] = []
    for row, (question, context, gold) in enumerate(zip(asked, read, golds, strict=True)):
        kept, room = rooms(how.longest, layout, len(question.ids))
        if kept < len(question.ids) and on_cut is not None:
            on_cut(row, len(question.ids) - kept)
        for begin, end in windows(len(context.ids), room, how.stride):
            window = Window(row, question.ids[:kept], context, begin, end, (IGNORED, IGNORED))
            found.append(window.aiming_at(_target(window, layout, gold, how.drop)))
    return store_of(found, layout)


def _target(window: Window, layout: Layout, golds: Golds | None, drop: bool) -> tuple[int, int]:
    """First and last token of the answer in a window."""
    if golds is None:
        return IGNORED, IGNORED
    ahead = len(layout.before) + len(window.question) + len(layout.between)
    size = ahead + window.end - window.begin + len(layout.after)
    nothing = layout.nothing % size
    if not golds:
        return nothing, nothing
    first, last = _covered(window.context, golds[0])
    if first > last:
        return IGNORED, IGNORED
    if window.begin <= first and last < window.end:
        return first - window.begin + ahead, last - window.begin + ahead
    return (IGNORED, IGNORED) if drop else (nothing, nothing)


def _covered(context: Tokens, gold: Mapping[str, Any]) -> tuple[int, int]:
    return context.covered(gold["start"], gold["start"] + len(gold["text"]))
