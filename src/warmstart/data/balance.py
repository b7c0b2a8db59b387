"""Classes of unequal size: rows repeated, rows left out, or weights in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from warmstart.counting import counted
from warmstart.data.ledger import Ledger


def resample(labels: np.ndarray, how: Literal["none", "over", "under"], seed: int) -> np.ndarray:
    """Row numbers, ascending, in which every class that occurs is equally frequent.

    "over" repeats rows up to the largest class, each row of a class as often as the next but for
    one; "under" leaves rows out down to the smallest class; "none" returns every row once.
    """
    labels = np.asarray(labels)
    if how == "none" or not len(labels):
        return np.arange(len(labels))
    rng = np.random.default_rng([seed, 0xBA1A])
    classes, counts = np.unique(labels, return_counts=True)
    size = int(counts.max() if how == "over" else counts.min())
    chosen: list[np.ndarray] = []
    for label, count in zip(classes, counts, strict=True):
        rows = np.flatnonzero(labels == label)
        chosen.append(np.repeat(rows, size // count))
        chosen.append(rng.choice(rows, size % count, replace=False))
    return np.sort(np.concatenate(chosen))


def note_sampling(
    labels: np.ndarray, rows: np.ndarray, names: Sequence[str], how: str, ledger: Ledger
) -> None:
    """Tell the ledger which rows of train are used: in all, and of each class before and after."""
    before = np.bincount(labels, minlength=len(names)).tolist()
    after = np.bincount(labels[rows], minlength=len(names)).tolist()
    each = max(after, default=0)
    if how == "over":
        text = f"{counted(len(labels))} of train repeated to {len(rows):,}"
    else:
        text = f"{len(rows):,} of {counted(len(labels))} of train used"
    sizes = [count for count in before if count]
    ledger.note(
        "sampling",
        f"data.sampling = {how}: {text}, {each:,} of each class, which had "
        f"{min(sizes, default=0):,} to {max(sizes, default=0):,}",
        how=how,
        rows=len(labels),
        used=len(rows),
        classes={
            name: {"rows": old, "used": new}
            for name, old, new in zip(names, before, after, strict=True)
        },
    )


def class_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """n / (k * count) for each of k classes (float64): their mean over the rows is 1.

    A class without rows has weight 0. (King and Zeng 2001; "balanced" in scikit-learn.)
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    weights = np.zeros(n_classes)
    np.divide(len(labels), n_classes * counts, out=weights, where=counts > 0)
    return weights
