"""How sure a score is, and whether two differ: bootstrap over rows (Efron 1979), for any Measure.

A resample is a vector of weights: how often each row was drawn. `Measure.weighted` scores a block
of such vectors at once, so a thousand resamples cost one product of matrices. Where rows
repeat (there are few pairs of a true and a predicted class), the counts of the distinct ones are
drawn from a multinomial, which is the same and costs milliseconds for any test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure

BLOCK = 2_000_000  # weights held at once, 16 MB of float64
SIGNIFICANT = 0.05
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds that hold the true one at the confidence level."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """{"value", "low", "high"}, plain floats."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """a - b of one figure on the same rows, with a paired interval and a paired test.

    `p_value`: how often rows with a's and b's answers swapped at random differ as much (Yeh 2000).
    `mcnemar_p`: McNemar's exact test (1947) that both are right equally often, where a row is
    either right or wrong.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    lower_is_better: bool = False
    mcnemar_p: float | None = None

    @property
    def outcome(self) -> str:
        """One of "better", "worse" and "noise": interval and test must agree on a difference."""
        if self.low <= 0 <= self.high or self.p_value >= SIGNIFICANT:
            return "noise"
        return "better" if (self.difference > 0) != self.lower_is_better else "worse"

    @property
    def disputed(self) -> bool:
        """Whether only one of interval and test says that there is a difference."""
        return disputed(self.low, self.high, self.p_value)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, enough to make it again."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def disputed(low: float, high: float, p_value: float) -> bool:
    """Whether an interval of a difference and a test of it disagree: few rows make them."""
    return (low <= 0 <= high) != (p_value >= SIGNIFICANT)


def resampled_weights(
    rows: int,
    draws: int,
    seed: int,
    groups: NDArray[Any] | None = None,
    counts: NDArray[Any] | None = None,
) -> Iterator[Floats]:
    """How often each row is drawn, in blocks [<= draws, rows].

    With `groups` [rows] whole groups are drawn instead of rows: for rows that belong together, as
    questions on the same passage do, single draws would claim too much certainty. With `counts`
    [rows] the rows are distinct ones that occur so many times.
    """
    rng = np.random.default_rng(seed)
    if counts is not None:
        for size in _blocks(draws, rows):
            drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=size)
            yield drawn.astype(np.float64)
        return
    units, of_row = _units(rows, groups)
    for size in _blocks(draws, rows):
        picks = rng.integers(0, units, (size, units))
        picks += units * np.arange(size)[:, None]
        times = np.bincount(picks.ravel(), minlength=size * units).reshape(size, units)
        yield (times if of_row is None else times[:, of_row]).astype(np.float64)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """Sizes of blocks of draws of so many numbers each, so that a block stays small."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def _distinct(
    measure: Measure, systems: Sequence[Floats], groups: NDArray[Any] | None
) -> tuple[list[Floats], NDArray[Any] | None]:
    """The systems' rows, each only once where the measure's rows repeat, and then their counts."""
    if not measure.repeats or groups is not None:
        return list(systems), None
    rows, counts = np.unique(np.hstack(systems), axis=0, return_counts=True)
    return np.split(rows, len(systems), axis=1), counts


def intervals(
    measure: Measure,
    rows: Floats,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
) -> dict[str, Interval]:
    """Each figure of a result (at least one row) with its percentile interval.

    A resample of rows that are all right claims certainty. So where a figure is perfect, the low
    bound is the exact one of `unseen_errors`; where it is the worst, the high bound is its mirror
    image. A figure on which no row bears stays as it is.
    """
    bearing = measure.bearing(rows)
    units = _units(len(rows), groups)[0]
    (rows,), counts = _distinct(measure, [rows], groups)
    if counts is not None:
        measure = measure.with_counts(counts)
    value = measure.total(rows, None if counts is None else counts.astype(np.float64))
    weights = resampled_weights(len(rows), draws, seed, groups, counts)
    drawn = [measure.weighted(rows, block) for block in weights]
    table: dict[str, Interval] = {}
    for name, figure in value.items():
        low, high = bounds(np.concatenate([block[name] for block in drawn]), level)
        known, top, bottom = bearing.get(name, units), measure.highest(name), measure.lowest(name)
        if top is not None and known:
            margin = 1.0 - unseen_errors(min(units, known), level)
            if figure >= top * (1.0 - ROUNDING):
                low = min(low, top * (1.0 - margin))
            if figure == bottom:
                high = max(high, bottom + (top - bottom) * margin)
        table[name] = Interval(figure, low, high)
    return table


def difference(
    measure: Measure,
    a: Floats,
    b: Floats,
    name: str,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
) -> Difference:
    """Figure `name` of system a minus that of b, from their statistics [n, S] on the same rows."""
    if a.shape != b.shape:
        raise ValueError(f"two systems on different rows: {a.shape} and {b.shape}")
    right = measure.correct(a), measure.correct(b)
    exact = None if right[0] is None or right[1] is None else mcnemar(right[0], right[1])
    (a, b), counts = _distinct(measure, [a, b], groups)
    single = measure if counts is None else measure.with_counts(counts)
    weights = np.ones(len(a)) if counts is None else counts.astype(np.float64)
    observed = single.total(a, weights)[name] - single.total(b, weights)[name]
    drawn = [
        single.weighted(a, weights)[name] - single.weighted(b, weights)[name]
        for weights in resampled_weights(len(a), draws, seed, groups, counts)
    ]
    low, high = bounds(np.concatenate(drawn), level)
    swapped = _swapped_differences(measure, a, b, name, counts, draws, seed + 1, groups)
    as_far = int((np.abs(swapped) >= abs(observed) - ROUNDING).sum())
    p_value = (1 + as_far) / (1 + draws)
    downwards = name in measure.lower_is_better
    return Difference(name, observed, low, high, p_value, level, downwards, exact)


def mcnemar(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that a and b are right equally often; looks at rows they split."""
    from scipy.stats import binomtest

    only_a = int((a_right & ~b_right).sum())
    only_b = int((b_right & ~a_right).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def bounds(sample: Floats, level: float) -> tuple[float, float]:
    """The percentile interval of the figures [draws] of resamples."""
    tail = (1.0 - level) / 2
    low, high = np.quantile(sample, [tail, 1.0 - tail])
    return float(low), float(high)


def unseen_errors(rows: int, level: float) -> float:
    """The lowest share of right rows that a test without one error leaves open.

    tail ** (1 / rows); Clopper & Pearson (1934); for 95 % about 1 - 3.7 / rows.
    """
    return ((1.0 - level) / 2) ** (1.0 / rows) if rows else 0.0


def _swapped_differences(
    measure: Measure,
    a: Floats,
    b: Floats,
    name: str,
    counts: NDArray[Any] | None,
    draws: int,
    seed: int,
    groups: NDArray[Any] | None,
) -> Floats:
    """Differences [draws] with a's and b's answers swapped in each row by a fair coin."""
    rng = np.random.default_rng(seed)
    units, of_row = _units(len(a), groups)
    both, times = np.concatenate([a, b]), np.ones(len(a)) if counts is None else counts
    if counts is not None:
        measure = measure.with_counts(np.tile(counts, 2))
    differences: list[Floats] = []
    for size in _blocks(draws, 2 * len(a)):
        if counts is None:
            swap = rng.integers(0, 2, (size, units)).astype(np.float64)
            swap = swap if of_row is None else swap[:, of_row]
        else:
            swap = rng.binomial(counts, 0.5, size=(size, len(counts))).astype(np.float64)
        first = measure.weighted(both, np.concatenate([times - swap, swap], axis=1))
        second = measure.weighted(both, np.concatenate([swap, times - swap], axis=1))
        differences.append(first[name] - second[name])
    return np.concatenate(differences)


def _units(rows: int, groups: NDArray[Any] | None) -> tuple[int, NDArray[np.int64] | None]:
    """How many things are drawn, and which of them each row belongs to (None: its own)."""
    if groups is None:
        return rows, None
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    return len(names), of_row.reshape(-1).astype(np.int64)
