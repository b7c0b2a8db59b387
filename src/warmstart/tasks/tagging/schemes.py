"""Tag schemes: entities as tags of words, the labels of a head, and which tag may follow which.

Read is whatever `warmstart.metrics.entities` reads (IOB1, IOB2, BILOU, BIOES); written is one of
SCHEMES. IOB1 and IOB2: Ramshaw and Marcus 1995, Tjong Kim Sang and Veenstra 1999; BILOU: Ratinov
and Roth 2009.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from warmstart.metrics.entities import Span, split_tag

Scheme = Literal["iob2", "iob1", "bioes", "bilou"]
MARKS: dict[str, tuple[str, str, str, str]] = {
    "iob2": ("B", "I", "I", "B"),
    "bioes": ("B", "I", "E", "S"),
    "bilou": ("B", "I", "L", "U"),
}
"""First, inner and last word of an entity, and the only one."""
TAG = re.compile(r"[BIESLUM]-.+", re.DOTALL)
BARE = frozenset("BIO")
"""The tags of data with one type that has no name."""
NAMELESS = "entity"


def are_entities(tags: Collection[str]) -> bool:
    """Whether tags of words say where entities are; else they are labels of single words."""
    return any(tag != "O" for tag in tags) and not strange(tags)


def strange(tags: Collection[str]) -> list[str]:
    """The tags that do not belong to a scheme."""
    if {"B", "O"} <= set(tags) <= BARE:
        return []
    return sorted(tag for tag in set(tags) if tag != "O" and not TAG.fullmatch(tag))


def tags_of(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """Tags of `length` words from entities that do not overlap, in order."""
    tags = ["O"] * length
    before: Span | None = None
    for span in spans:
        start, end, kind = span
        if scheme == "iob1":
            touches = before is not None and before[1] == start and before[2] == kind
            marks = ("B" if touches else "I", "I", "I", "B" if touches else "I")
        else:
            marks = MARKS[scheme]
        first, inner, last, only = marks
        tags[start:end] = [f"{inner}-{kind}"] * (end - start)
        tags[start] = f"{first}-{kind}"
        tags[end - 1] = f"{only if end - start == 1 else last}-{kind}"
        before = span
    return tags


def labels_of(types: Iterable[str], scheme: str) -> list[str]:
    """The labels of a head that knows these types: O first."""
    marks = dict.fromkeys(("I", "B") if scheme == "iob1" else MARKS[scheme])
    return ["O", *(f"{mark}-{kind}" for kind in types for mark in marks)]


def renewed(tag: str) -> str:
    """The tag of a further part of a word with this tag: what began goes on."""
    return f"I{tag[1:]}" if tag[:2] == "B-" else tag


def broken(rows: Sequence[Sequence[str]]) -> tuple[str, dict[int, list[str]]]:
    """The scheme that tags were meant in, and of each row what in it does not follow that scheme:
    `I-LOC after O`. Of IOB2 and IOB1 the one that fits better."""
    labels = sorted({tag for row in rows for tag in row})
    closed = {tag[0] for tag in labels} & set("ESLUM")
    schemes = ("bilou" if closed & set("LU") else "bioes",) if closed else ("iob2", "iob1")
    breaks = {scheme: _breaks(rows, labels, scheme) for scheme in schemes}
    best = min(schemes, key=lambda scheme: sum(map(len, breaks[scheme].values())))
    return best, breaks[best]


def _breaks(rows: Sequence[Sequence[str]], labels: list[str], scheme: str) -> dict[int, list[str]]:
    """Row → what in it does not follow the scheme."""
    begin, between, end = rules(labels, scheme)
    wrong = {
        (labels[i], labels[j]): f"{labels[j]} after {labels[i]}" for i, j in np.argwhere(~between)
    }
    wrong |= {("", labels[i]): f"{labels[i]} at the beginning" for i in np.flatnonzero(~begin)}
    wrong |= {(labels[i], ""): f"{labels[i]} at the end" for i in np.flatnonzero(~end)}
    breaks = {
        number: [wrong[pair] for pair in pairwise(["", *row, ""]) if pair in wrong]
        for number, row in enumerate(rows)
    }
    return {number: texts for number, texts in breaks.items() if texts}


def rules(labels: Sequence[str], scheme: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which label may begin [K], follow another [K, K] and end [K] a text."""
    parts = [split_tag(label) for label in labels]
    closes = scheme in ("bioes", "bilou")

    def follows(tag: tuple[str, str], successor: tuple[str, str]) -> bool:
        (mark, kind), (following, after) = tag, successor
        inside = following in ("I", "E")
        if scheme == "iob1":
            return following != "B" or (mark != "O" and kind == after)
        if closes and mark in ("B", "I"):
            return inside and kind == after
        return not inside or (mark in ("B", "I") and kind == after)

    begin = np.array([follows(("O", ""), part) for part in parts], bool)
    between = np.array([[follows(tag, successor) for successor in parts] for tag in parts], bool)
    end = np.array([not (closes and mark in ("B", "I")) for mark, _ in parts], bool)
    return begin, between, end
