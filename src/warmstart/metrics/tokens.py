"""Labels of single words, such as parts of speech: accuracy and F1 per label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from warmstart.metrics.base import Floats, Measure, Scores
from warmstart.metrics.counts import class_bearing, class_scores


class WordLabels(Measure):
    """Accuracy over all words, macro-F1 and the figures of each label.

    Predictions and references: for each row the labels of its words, as many in both. Statistics:
    3 counts per label. `f1_micro` is the accuracy: of one label a word, micro-averaged precision,
    recall and F1 are all the share that is right.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

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
        found = class_scores(weights @ rows, self.labels, rows.sum(0))
        del found["precision_micro"], found["recall_micro"]
        return {**found, "accuracy": found["f1_micro"]}

    def bearing(self, rows: Floats) -> dict[str, int]:
        return class_bearing(rows, self.labels)
