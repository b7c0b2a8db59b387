"""One answer of any task: as a line for people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.types import Prediction

NOTHING = "(none)"
SHOWN = 3  # numbers of a vector; JSON has all


def as_line(text: str, answer: Prediction) -> str:
    """Answer, confidence and text, with tabs between them; a number and a vector have no
    confidence: nobody knows how sure they are."""
    sure = [f"{answer.confidence:.3f}"] if _is_sure(answer) else []
    return "\t".join([in_words(answer.value), *sure, " ".join(text.split())])


def as_row(answer: Prediction) -> dict[str, Any]:
    """What `--json` prints; an answer out of a passage has its place there."""
    row: dict[str, Any] = {"id": answer.id, "label": answer.value}
    if _is_sure(answer):
        row["confidence"] = answer.confidence
    for name in ("start", "end"):
        if hasattr(answer, name):
            row[name] = getattr(answer, name)
    scores = {label: round(score, 6) for label, score in answer.scores.items()}
    return {**row, "scores": scores} if scores else row


def in_words(value: Any) -> str:
    """A label, text or number as it is; labels, entities and the answers of several tasks each
    after the other."""
    if isinstance(value, str):
        return " ".join(value.split()) or NOTHING
    if isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        return "; ".join(f"{name}: {in_words(one)}" for name, one in named.items()) or NOTHING
    if _is_vector(value):
        return f"[{', '.join(f'{one:.3f}' for one in value[:SHOWN])}, … {len(value)} numbers]"
    if not isinstance(value, list | tuple) or not all(_is_plain(one) for one in value):
        return json.dumps(value, ensure_ascii=False, default=str)
    return ", ".join(_part(one) for one in value) or NOTHING


def _part(value: Any) -> str:
    """A label, or a piece of the text with its type or tag."""
    if isinstance(value, str):
        return value
    return f"{' '.join(value['text'].split())} [{value.get('type', value.get('tag'))}]"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "text" in value)


def _is_sure(answer: Prediction) -> bool:
    """Whether the answer comes with a confidence."""
    return not isinstance(answer.value, float) and not _is_vector(answer.value)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)
