"""Cutting validation and test from train: seeded, in the proportion of the classes, in groups."""

from __future__ import annotations

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2


def cut(
    codes: np.ndarray, keys: np.ndarray, validation: float, test: float, seed: int
) -> np.ndarray:
    """The side of each row: TRAIN, VALIDATION or TEST (int8).

    `codes` are class numbers, `keys` say which rows belong together and never part. `validation`
    and `test` are shares of all rows. Every class keeps at least one group in train; where test is
    cut, every class of two groups or more has one there.
    """
    _, first, group, sizes = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    owner = codes[first]
    counts = np.bincount(owner, weights=sizes, minlength=int(codes.max(initial=0)) + 1)
    wanted_test = quotas(counts, test, least=1)
    wanted_validation = quotas(counts, validation, least=0)
    order = np.random.default_rng([seed, 0x5017]).permutation(len(sizes))
    order = order[np.argsort(owner[order], kind="stable")]
    starts = np.searchsorted(owner[order], np.arange(len(counts) + 1))
    side = np.zeros(len(sizes), np.int8)
    for label in range(len(counts)):
        free = order[starts[label] : starts[label + 1]]
        free = _take(side, free, sizes, int(wanted_test[label]), TEST)
        _take(side, free, sizes, int(wanted_validation[label]), VALIDATION)
    return side[group]


def quotas(counts: np.ndarray, share: float, least: int) -> np.ndarray:
    """How many rows of each class make up `share` of all, rounded so that the sum is right.

    At least `least` of each class, and at least one row in all, unless the share is 0.
    """
    if share == 0:
        return np.zeros(len(counts), np.int64)
    exact = counts * share
    wanted = np.floor(exact)
    missing = max(1, round(exact.sum())) - int(wanted.sum())
    wanted[np.argsort(wanted - exact, kind="stable")[:missing]] += 1
    return np.maximum(wanted, least).astype(np.int64)


def _take(
    side: np.ndarray, free: np.ndarray, sizes: np.ndarray, wanted: int, mark: int
) -> np.ndarray:
    """Mark groups of about `wanted` rows in all and return those still free.

    A group too big for what is wanted stays in train, unless there is none smaller; one group is
    always left.
    """
    taken: list[int] = []
    if wanted > 0 and len(free) > 1:
        left = wanted
        for group in free.tolist():
            if sizes[group] <= left and len(taken) < len(free) - 1:
                taken.append(group)
                left -= int(sizes[group])
            if left == 0:
                break
        taken = taken or [int(free[np.argmin(sizes[free])])]
    side[taken] = mark
    return free[~np.isin(free, taken)]
