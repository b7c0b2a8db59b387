"""Precision, recall and F1 from counts per class, for entities and for several labels per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from warmstart.metrics.base import Floats, Scores, ratio


def class_scores(sums: Floats, classes: Sequence[str], whole: Floats) -> Scores:
    """Micro, macro and per-class figures from sums [..., 3 K]: right, predicted, actual per class.

    Macro-F1 is the mean over the classes that the truth holds, of which `whole` [3 K or more], the
    sums of all rows, tells: the same classes in every resample. A resample that happens to hold
    none of a class says nothing of it; there the class keeps its F1 of all rows. The figures of
    one class are named after it: `f1:PER`.
    """
    right, predicted, actual = split_counts(sums, len(classes))
    all_right, all_predicted, all_actual = split_counts(whole, len(classes))
    all_f1 = ratio(2 * all_right, all_predicted + all_actual)
    f1 = np.where(actual > 0, ratio(2 * right, predicted + actual), all_f1)
    judged = all_actual > 0
    scores: Scores = {
        "f1_micro": ratio(2 * right.sum(-1), predicted.sum(-1) + actual.sum(-1)),
        "precision_micro": ratio(right.sum(-1), predicted.sum(-1)),
        "recall_micro": ratio(right.sum(-1), actual.sum(-1)),
        "f1_macro": ratio((f1 * judged).sum(-1), judged.sum(-1)),
    }
    precision, recall = ratio(right, predicted), ratio(right, actual)
    for number, name in enumerate(classes):
        scores[f"f1:{name}"] = f1[..., number]
        scores[f"precision:{name}"] = precision[..., number]
        scores[f"recall:{name}"] = recall[..., number]
    return scores


def class_bearing(rows: Floats, classes: Sequence[str]) -> dict[str, int]:
    """For the figures of each class: rows [n, 3 K] that have it, as truth or as prediction."""
    _, predicted, actual = split_counts(rows, len(classes))
    found: dict[str, int] = {}
    for number, name in enumerate(classes):
        given, true = predicted[:, number] > 0, actual[:, number] > 0
        found[f"f1:{name}"] = int((given | true).sum())
        found[f"precision:{name}"] = int(given.sum())
        found[f"recall:{name}"] = int(true.sum())
    return found


def split_counts(sums: Floats, k: int) -> tuple[Floats, Floats, Floats]:
    """The right, the predicted and the actual, each [..., K], of counts [..., 3 K]."""
    right, predicted, actual = np.split(sums[..., : 3 * k], 3, axis=-1)
    return right, predicted, actual
