"""What was wrong: each entity that was missed, invented, of another type or with other borders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from warmstart.scores.spans import Span, spans_of_tags
from warmstart.tasks._tagged import words_in

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.tasks._tagging_answers import Tagged
    from warmstart.tasks._words import Place

AROUND = 80  # characters of the text shown on each side
KINDS = ("missed", "invented", "wrong type", "wrong borders")
NOTHING = "(none)"


def wrong_ones(
    answers: Sequence[Tagged], truth: Sequence[Sequence[str]], table: pa.Table, *, entities: bool
) -> Iterator[dict[str, Any]]:
    """Each wrong entity, or word, as `Result.mistakes` wants it, with the text around it."""
    texts, words = table["text"].to_pylist(), words_in(table)
    files, lines = table["_file"].to_pylist(), table["_line"].to_pylist()
    for row, (answer, tags) in enumerate(zip(answers, truth, strict=True)):
        if answer.tags == tags:
            continue
        pairs = _by_entity(answer.tags, tags) if entities else _by_word(answer.tags, tags)
        for kind, said, true in pairs:
            spans = [span for span in (said, true) if span]
            first, last = min(span[0] for span in spans), max(span[1] for span in spans)
            start, end = words[row][first][0], words[row][last - 1][1]
            yield {
                "file": files[row],
                "line": lines[row],
                "text": _around(texts[row], start, end),
                "label": _named(true, texts[row], words[row], entities=entities),
                "prediction": _named(said, texts[row], words[row], entities=entities),
                "confidence": float(answer.sure[first:last].mean()),
                "note": kind,
            }


def _by_word(
    said: Sequence[str], truth: Sequence[str]
) -> Iterator[tuple[str, Span | None, Span | None]]:
    for place, (one, other) in enumerate(zip(said, truth, strict=True)):
        if one != other:
            yield "wrong label", (place, place + 1, one), (place, place + 1, other)


def _by_entity(
    said: Sequence[str], truth: Sequence[str]
) -> Iterator[tuple[str, Span | None, Span | None]]:
    """(kind, said, true) of what was not the same; each entity is told of once."""
    ours, true = spans_of_tags(said), spans_of_tags(truth)
    left = [span for span in true if span not in ours]
    for span in (span for span in ours if span not in true):
        same = [other for other in left if other[:2] == span[:2]]
        touching = same or [other for other in left if other[0] < span[1] and span[0] < other[1]]
        if not touching:
            yield "invented", span, None
            continue
        left.remove(touching[0])
        yield "wrong type" if same else "wrong borders", span, touching[0]
    for span in left:
        yield "missed", None, span


def _named(span: Span | None, text: str, words: Sequence[Place], *, entities: bool) -> str:
    if span is None:
        return NOTHING
    first, last, kind = span
    return f"{kind}: {text[words[first][0] : words[last - 1][1]]}" if entities else kind


def _around(text: str, start: int, end: int) -> str:
    """The text about a place, which stands in brackets."""
    low, high = max(0, start - AROUND), min(len(text), end + AROUND)
    before = ("…" if low else "") + text[low:start]
    return f"{before}[{text[start:end]}]{text[end:high]}" + ("…" if high < len(text) else "")
