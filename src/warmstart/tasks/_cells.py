"""Cells of tokens, tags and spans as files hold them: lists, JSON, or words with spaces."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from warmstart.errors import RowError, shown
from warmstart.tasks._words import Place, joined

Marked = tuple[int, int, str]
"""First character, the one after the last, type."""
TYPE_KEYS = ("label", "type", "tag", "entity_group", "entity")


def read_text(cell: Any, *, tagged: bool) -> tuple[str, list[Place] | None]:
    """A text, and the places of its tokens where it came as tokens.

    A plain text that has tags is a text of tokens with spaces between. Raises `RowError`.
    """
    tokens = _listed(cell)
    if tokens is not None:
        placed = _placed(tokens)
        return placed or joined([_token(token) for token in tokens])
    text = "" if cell is None else str(cell)
    if not tagged:
        return text, None
    places: list[Place] = []
    for word in text.split():
        start = text.index(word, places[-1][1] if places else 0)
        places.append((start, start + len(word)))
    return text, places


def read_tags(cell: Any, names: Sequence[str]) -> list[str]:
    """The tags of one text; `names` are those of tags that are given as numbers.

    Raises `RowError`.
    """
    found = _listed(cell)
    if found is None:
        found = str(cell or "").split()
    return [_tag(tag, names) for tag in found]


def read_spans(cell: Any, text: str) -> list[Marked]:
    """The entities of one text in order, whitespace at their ends left out.

    Raises `RowError` for one that is no span, lies outside the text, is not what it says, or
    overlaps another.
    """
    found = _structure(cell)
    if isinstance(found, Mapping) and "entities" in found:
        found = found["entities"]
    if found is None or found == "":
        return []
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise RowError(f"spans '{shown(found, 30)}' are no list of {{start, end, label}}")
    spans = sorted({_span(one, text) for one in found})
    for one, other in pairwise(spans):
        if other[0] < one[1]:
            raise RowError("overlapping spans")
    return spans


def _listed(cell: Any) -> Sequence[Any] | None:
    """The items of a list, or of a string that is written as one; None for anything else."""
    if cell is None or isinstance(cell, str):
        value = _structure(cell)
        cell = None if isinstance(value, str | Mapping) else value
    if not isinstance(cell, Sequence):
        return None
    simple = all(isinstance(one, str | int | Mapping) for one in cell)
    return cell if simple or None in cell else None


def _structure(cell: Any) -> Any:
    """A value that is written as JSON or as Python writes it; other strings as they are."""
    if not isinstance(cell, str) or cell.strip()[:1] not in ("[", "{"):
        return cell
    for read in (json.loads, ast.literal_eval):
        try:
            return read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def _placed(tokens: Sequence[Any]) -> tuple[str, list[Place]] | None:
    """Tokens that say where they stand, {text, start}, as a text; None for all others."""
    if not tokens or not all(isinstance(t, Mapping) and _whole(t.get("start")) for t in tokens):
        return None
    text, places = "", list[Place]()
    for token in tokens:
        text = text.ljust(int(token["start"]))
        if len(text) > int(token["start"]):
            raise RowError("overlapping tokens")
        places.append((len(text), len(text) + len(_token(token))))
        text += _token(token)
    return text, places


def _token(token: Any) -> str:
    if isinstance(token, Mapping):
        token = token.get("text")
    if token is None:
        raise RowError("a token is missing")
    return str(token)


def _tag(tag: Any, names: Sequence[str]) -> str:
    if tag is None:
        raise RowError("a tag is missing")
    number = tag if isinstance(tag, int) else None
    if number is None and names and str(tag).isdecimal():
        number = int(tag)
    if number is None or not names:
        return str(tag)
    if not 0 <= number < len(names):
        raise RowError(f"tag {number} has no name: task.names has {len(names)}")
    return names[number]


def _span(one: Any, text: str) -> Marked:
    start, end, kind, said = _parts(one)
    if not 0 <= start < end <= len(text):
        raise RowError("a span lies outside its text")
    if said is not None and text[start:end] != said:
        raise RowError("a span's text is not what stands at its offsets")
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip())
    end -= len(inner) - len(inner.rstrip())
    if start >= end:
        raise RowError("a span holds nothing but whitespace")
    return start, end, kind


def _parts(one: Any) -> tuple[int, int, str, str | None]:
    """Start, end, type and, where it is given, text."""
    said = None
    if isinstance(one, Mapping):
        said = one.get("text")
        kind = next((one[key] for key in TYPE_KEYS if one.get(key)), None)
        one = (one.get("start"), one.get("end"), kind)
    if not isinstance(one, Sequence) or isinstance(one, str) or len(one) != 3:
        raise RowError("a span is no {start, end, label}")
    start, end, kind = one
    if not (_whole(start) and _whole(end)) or kind in (None, ""):
        raise RowError("a span is no {start, end, label}")
    return int(start), int(end), str(kind), said if isinstance(said, str) else None


def _whole(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip("-").isdecimal()
    return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
