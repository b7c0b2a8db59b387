"""Which rows are used: cut off for validation and test, evened out by class, mixed from sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from warmstart.data.ledger import Ledger
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.formatting import counted

TRAIN, VALIDATION, TEST = 0, 1, 2  # as in tables.SPLITS


def cut(
    codes: np.ndarray, keys: np.ndarray, validation: float, test: float, seed: int
) -> np.ndarray:
    """The side of each row: TRAIN, VALIDATION or TEST (int8).

    `codes` are class numbers, `keys` say which rows belong together and never part. `validation`
    and `test` are shares of all rows. Every class keeps rows in train; where test is cut, every
    class that owns two groups or more (a group is owned by the class of its first row) has one
    there, unless it has to give it back for that.
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
    _keep_in_train(side, group, sizes, codes)
    return side[group]


def _keep_in_train(
    side: np.ndarray, group: np.ndarray, sizes: np.ndarray, codes: np.ndarray
) -> None:
    """Give back to train the smallest group of each class whose rows were all taken, as where they
    stand in groups that other classes own."""
    missing = np.bincount(codes) > 0
    missing[codes[side[group] == TRAIN]] = False
    for label in np.flatnonzero(missing):
        if missing[label]:
            own = np.unique(group[codes == label])
            back = own[np.argmin(sizes[own])]
            side[back] = TRAIN
            missing[codes[group == back]] = False


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
    before, after = (np.bincount(y, minlength=len(names)).tolist() for y in (labels, labels[rows]))
    text = f"{len(rows):,} of {counted(len(labels))} of train used"
    if how == "over":
        text = f"{counted(len(labels))} of train repeated to {len(rows):,}"
    sizes = [count for count in before if count]
    sides = zip(names, before, after, strict=True)
    ledger.note(
        "sampling",
        f"data.sampling = {how}: {text}, {max(after, default=0):,} of each class, which had "
        f"{min(sizes, default=0):,} to {max(sizes, default=0):,}",
        how=how,
        rows=len(labels),
        used=len(rows),
        classes={name: {"rows": old, "used": new} for name, old, new in sides},
    )


def class_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """n / (k * count) for each of k classes (float64): their mean over the rows is 1.

    A class without rows has weight 0. (King and Zeng 2001; "balanced" in scikit-learn.)
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    weights = np.zeros(n_classes)
    np.divide(len(labels), n_classes * counts, out=weights, where=counts > 0)
    return weights


def shares(rows: Mapping[str, int], temperature: float) -> dict[str, float]:
    """The share of each data set: its rows ** (1 / temperature), divided by the sum of these.

    1 is in proportion to the rows; the higher the temperature, the more even (Arivazhagan et al.
    2019; Raffel et al. 2020, section 3.5.2).
    """
    logs = np.log(np.maximum(np.array(list(rows.values()), np.float64), 1.0)) / temperature
    weights = np.exp(logs - logs.max())
    return dict(zip(rows, (weights / weights.sum()).tolist(), strict=True))


def mixed(sizes: Sequence[np.ndarray], shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Rows of several sets, so many that the tokens of each come to its share.

    `sizes` are the tokens of the rows of each set, `shares` those of all sets but the first, whose
    rows are all taken, once. Of another set rows are drawn without repeats, and, where it is too
    small, all of them before any is drawn again; the last row drawn is the one with which the share
    is reached, to within half of it.
    """
    rest = 1.0 - sum(shares)
    rows = [np.arange(len(sizes[0]))]
    for number, (own, share) in enumerate(zip(sizes[1:], shares, strict=True), 1):
        wanted, rng = sizes[0].sum() * share / rest, np.random.default_rng([seed, 0x3A9E, number])
        passes = int(wanted // max(own.sum(), 1))
        order = rng.permutation(len(own))
        ends = np.cumsum(own[order]) + passes * own.sum()
        last = int(np.searchsorted(ends - own[order] / 2, wanted))
        rows.append(np.concatenate([np.repeat(np.arange(len(own)), passes), order[:last]]))
    return rows


def turns(wanted: Mapping[str, float], steps: int) -> dict[str, int]:
    """The shares as whole numbers of steps, by the largest remainder, and never none at all."""
    exact = np.array(list(wanted.values())) * steps
    counts = np.maximum(np.floor(exact).astype(int), 1)
    for place in np.argsort(np.floor(exact) - exact, kind="stable"):
        if counts.sum() >= steps:
            break
        counts[place] += 1
    return dict(zip(wanted, counts.tolist(), strict=True))


def order(counts: Mapping[str, int], seed: int, epoch: int) -> list[str]:
    """The turns of one epoch, shuffled."""
    names = [name for name, count in counts.items() for _ in range(count)]
    rng = np.random.default_rng([seed, epoch, len(names)])
    return [names[i] for i in rng.permutation(len(names))]


def counts(
    stores: Mapping[str, TokenizedDataset], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Label → split → rows, where a row has a single label."""
    numbers = {n: np.bincount(own.targets, minlength=len(labels)) for n, own in stores.items()}
    return {
        label: {name: int(of_split[i]) for name, of_split in numbers.items()}
        for i, label in enumerate(labels)
    }
