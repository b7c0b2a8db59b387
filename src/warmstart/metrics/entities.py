"""Scores of tags: entity F1 as `conlleval` counts it, and accuracy and F1 of labels of words.

An entity is right if its type and its span are (CoNLL-2000).

`spans_of_tags` reads tags as conlleval.pl (Tjong Kim Sang 2004) does, ill-formed ones too: an
entity begins at B, at an I after O and wherever the type changes, so I without B is an entity and
IOB1 and IOB2 need no telling apart. E, S (IOBES), L, U (BILOU) and M (BMES) are read beyond that
script, whose rules split no neighbours of one type there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from warmstart.errors import RowError, shown
from warmstart.metrics.base import Floats, Scores
from warmstart.metrics.classification import CountMeasure

Span = tuple[int, int, str]
"""First unit, the unit after the last, type. Units: tokens or characters."""

MEANS = {**{tag: tag for tag in "BIOES"}, "L": "E", "U": "S", "M": "I"}


def spans_of_tags(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence's tags, in token numbers, in order.

    Raises RowError for a tag that begins with none of B, I, O, E, S, L, U and M.
    """
    spans: list[Span] = []
    start, before, kind_before = -1, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, kind = split_tag(tag)
        fresh = before in "OES" or kind != kind_before
        if start >= 0 and (mark in "OBS" or fresh):
            spans.append((start, place, kind_before))
            start = -1
        if mark in "BS" or (mark != "O" and fresh):
            start = place
        before, kind_before = mark, kind
    return spans


def split_tag(tag: str) -> tuple[str, str]:
    """Mark (one of B, I, O, E, S) and type of a tag: `L-PER` is ("E", "PER")."""
    mark, _, kind = tag.partition("-")
    if mark not in MEANS:
        raise RowError(
            f"tag '{shown(tag)}' is of no known kind: write B-, I-, E-, S-, L-, U- or M- "
            f"and a type, or O"
        )
    return MEANS[mark], "" if mark == "O" else kind


def types_of(*collections: Iterable[Iterable[Span]]) -> tuple[str, ...]:
    """The types that occur in rows of spans, sorted."""
    return tuple(sorted({span[2] for rows in collections for row in rows for span in row}))


class Entities(CountMeasure):
    """Micro, macro and per-type precision, recall and F1 of entities.

    Predictions and references: for each row its spans (first, after last, type), in tokens or in
    characters, in any order; the same span twice counts once. Statistics: 3 counts per type.
    Matches conlleval: `f1_micro` is its overall FB1, `f1:TYPE` that of a type, in 0 to 1.
    """

    def rows(
        self, predictions: Sequence[Iterable[Span]], references: Sequence[Iterable[Span]]
    ) -> Floats:
        number = {kind: place for place, kind in enumerate(self.labels)}
        counts = np.zeros((len(references), 3, len(self.labels)))
        for row, guess, truth in zip(counts, predictions, references, strict=True):
            guessed, true = (
                {(int(first), int(last), str(kind)) for first, last, kind in spans}
                for spans in (guess, truth)
            )
            for place, spans in enumerate((guessed & true, guessed, true)):
                for *_, kind in spans:
                    if kind not in number:
                        raise ValueError(
                            f"entity type '{shown(kind)}' is not among the types of this measure"
                        )
                    row[place, number[kind]] += 1
        return counts.reshape(len(references), -1)


class WordLabels(CountMeasure):
    """Accuracy over all words, macro-F1 and the figures of each label.

    Predictions and references: for each row the labels of its words, as many in both. Statistics:
    3 counts per label. `f1_micro` is the accuracy: of one label a word, micro-averaged precision,
    recall and F1 are all the share that is right.
    """

    def rows(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> Floats:
        number = {label: place for place, label in enumerate(self.labels)}
        k = len(self.labels)
        counts = np.zeros((len(references), 3, k))
        for row, guess, truth in zip(counts, predictions, references, strict=True):
            guessed = np.array([number[label] for label in guess], np.int64)
            true = np.array([number[label] for label in truth], np.int64)
            if len(guessed) != len(true):
                raise ValueError(f"{len(guessed)} labels for {len(true)} words")
            for place, labels in enumerate((true[guessed == true], guessed, true)):
                row[place] = np.bincount(labels, minlength=k)
        return counts.reshape(len(references), -1)

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        scores = super().weighted(rows, weights)
        del scores["precision_micro"], scores["recall_micro"]
        return {**scores, "accuracy": scores["f1_micro"]}
