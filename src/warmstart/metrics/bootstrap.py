"""How sure a score is, and whether two differ: bootstrap over rows (Efron 1979), for any Measure.

A resample is a vector of weights: how often each row was drawn. `Measure.weighted` scores a block
of such vectors at once, so a thousand resamples cost one product of matrices. Where rows
repeat (there are few pairs of a true and a predicted class), the counts of the distinct ones are
drawn from a multinomial, which is the same and costs milliseconds for any test set.

Resamples give the standard error; the interval of a figure with a best and a worst value is
Wilson's (1927) for the number of rows that would have that error (as for surveys: Franco et al.
2019), so it stays in range. Percentiles would not hold the truth: each resample of few rows a class
scores lower than the rows themselves (`tests/metrics/test_coverage.py`; the guide has the table).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure

BLOCK = 2_000_000  # weights held at once, 16 MB of float64
SIGNIFICANT = 0.05
ROUNDING = 1e-12
MACRO = "f1_macro"
"""The figure that is a mean over classes."""
MISSED = np.array([0.0, 1.0, 0.4234, 0.1346, 0.0111, 0.0])
"""What resamples miss of the variance of a class of 0, 1, … and at least 5 rows. They show (n - 1)
/ n of it, but also draw the class in other sizes N, so 1 - (n - 1) E[1/N], N > 0 of Poisson(n)."""
FEWEST = 3
"""Test rows a class, on average, below which macro-F1 gets no interval: none would hold it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the bounds that hold the true one at the confidence level; None where the rows
    are too few to give any."""

    value: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """{"value", "low", "high"}, plain."""
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


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """Rows of one or two systems [R, S each] as they are drawn again: in units that stay whole.

    Of `counts[u]` units alike only one stands here; row i belongs to unit `unit[i]`, and occurs
    `times[i]` times in it.
    """

    rows: list[Floats]
    counts: NDArray[Any]
    unit: NDArray[np.int64]
    times: Floats

    @classmethod
    def of(
        cls, measure: Measure, systems: Sequence[Floats], groups: NDArray[Any] | None
    ) -> _Sample:
        """Of statistics [n, S]; `groups` [n] are equal for rows that belong together."""
        n = len(systems[0])
        units, unit = unit_numbers(n, groups)
        if not measure.repeats:
            return cls(list(systems), np.ones(units), unit, np.ones(n))
        table, code = np.unique(np.hstack(systems), axis=0, return_inverse=True)
        code, alone = code.reshape(-1), np.bincount(unit, minlength=units)[unit] == 1
        single, counts = np.unique(code[alone], return_counts=True)
        pairs = np.stack([unit[~alone], code[~alone]], 1)
        cells, times = np.unique(pairs, axis=0, return_counts=True)
        names, own = np.unique(cells[:, 0], return_inverse=True)
        return cls(
            np.split(table[np.concatenate([single, cells[:, 1]])], len(systems), axis=1),
            np.concatenate([counts, np.ones(len(names))]),
            np.concatenate([np.arange(len(single)), len(single) + own.reshape(-1)]),
            np.concatenate([np.ones(len(single)), times.astype(np.float64)]),
        )

    @property
    def whole(self) -> Floats:
        """How often each row occurs in the result."""
        return self.weights(self.counts)

    def weights(self, drawn: NDArray[Any]) -> Floats:
        """How often each row [..., R] occurs where each unit is drawn so often [..., U]."""
        return drawn[..., self.unit] * self.times

    def measured_by(self, measure: Measure) -> Measure:
        """The measure of these rows."""
        return measure.with_counts(self.whole) if measure.repeats else measure

    def resamples(self, draws: int, seed: int) -> Iterator[Floats]:
        """Weights of the rows in blocks [<= draws, R]."""
        for drawn in resampled_units(self.counts, draws, seed, len(self.unit)):
            yield self.weights(drawn)

    def swaps(self, draws: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
        """Weights of the rows that stay and of those whose two answers are swapped by a fair coin a
        unit."""
        rng = np.random.default_rng(seed)
        for size in _blocks(draws, 2 * len(self.unit)):
            swap = rng.binomial(self.counts.astype(np.int64), 0.5, (size, len(self.counts)))
            yield self.weights(self.counts - swap), self.weights(swap)


def resampled_units(
    counts: NDArray[Any], draws: int, seed: int, width: int = 0
) -> Iterator[NDArray[Any]]:
    """How often each unit is drawn, in blocks [<= draws, units]; unit i stands for `counts[i]`
    that are alike. `width`: numbers that are made of each draw, where they are more."""
    rng = np.random.default_rng(seed)
    units, total = len(counts), int(counts.sum())
    for size in _blocks(draws, max(units, width)):
        if total > units:
            yield rng.multinomial(total, counts / total, size=size)
            continue
        picks = rng.integers(0, units, (size, units))
        picks += units * np.arange(size)[:, None]
        yield np.bincount(picks.ravel(), minlength=size * units).reshape(size, units)


def _blocks(draws: int, width: int) -> Iterator[int]:
    """Sizes of blocks of draws of so many numbers each, so that a block stays small."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def intervals(
    measure: Measure,
    rows: Floats,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    groups: NDArray[Any] | None = None,
) -> dict[str, Interval]:
    """Each figure of a result (at least one row) with its interval.

    A resample of rows that are all right claims certainty. So where a figure is perfect, the low
    bound is the exact one of `unseen_errors`; where it is the worst, the high bound is its mirror
    image. A figure on which no row bears stays as it is; one without a best value has the
    percentile interval. Macro-F1 has none where its classes have fewer than FEWEST rows on average.
    """
    units, unit = unit_numbers(len(rows), groups)
    bearing, classes = measure.bearing(rows), measure.class_units(rows, unit)
    sample = _Sample.of(measure, [rows], groups)
    measure, (rows,) = sample.measured_by(measure), sample.rows
    value = measure.total(rows, sample.whole)
    drawn = [measure.weighted(rows, weights) for weights in sample.resamples(draws, seed)]
    table: dict[str, Interval] = {}
    for name, figure in value.items():
        every, top = np.concatenate([block[name] for block in drawn]), measure.highest(name)
        if top is None:
            table[name] = Interval(figure, *bounds(every, level))
            continue
        known, bottom, hidden = bearing.get(name, units), measure.lowest(name), 0.0
        share = (figure - bottom) / (top - bottom)
        if name == MACRO and classes is not None and len(classes):
            if classes.mean() < FEWEST:
                table[name] = Interval(figure, None, None)
                continue
            hidden = hidden_variance(classes, (share * units + 1) / (units + 2))
            known = int(len(classes) ** 2 / (1 / classes).sum())
        spread = math.hypot(standard_error(every, units) / (top - bottom), math.sqrt(hidden))
        low, high = wilson(share, spread, min(units, known), units, level)
        table[name] = Interval(
            figure, bottom + (top - bottom) * low, bottom + (top - bottom) * high
        )
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
    """Figure `name` of system a minus that of b, from their statistics [n, S] on the same rows.

    The interval is the difference ± its standard error times Student's t, to which one row that
    differs is added (Agresti & Min 2005), so that two systems with the same answers are not
    certainly alike.
    """
    if a.shape != b.shape:
        raise ValueError(f"two systems on different rows: {a.shape} and {b.shape}")
    units, unit = unit_numbers(len(a), groups)
    right = measure.correct(a), measure.correct(b)
    single = units == len(a) and right[0] is not None and right[1] is not None
    exact = mcnemar(*right) if single else None  # pyright: ignore[reportArgumentType]
    classes, split = measure.class_units(a, unit), measure.discord(a, b)
    top, bottom = measure.highest(name), measure.lowest(name)
    downwards, rows = name in measure.lower_is_better, len(a)
    sample = _Sample.of(measure, [a, b], groups)
    swapped = _swapped_differences(measure, sample, name, draws, seed + 1)
    measure, (a, b) = sample.measured_by(measure), sample.rows
    observed = measure.total(a, sample.whole)[name] - measure.total(b, sample.whole)[name]
    every = np.concatenate(
        [measure.weighted(a, weights)[name] - measure.weighted(b, weights)[name]
         for weights in sample.resamples(draws, seed)]
    )  # fmt: skip
    if top is None:
        low, high = bounds(every, level)
    else:
        hidden = 0.0
        if name == MACRO and classes is not None and len(classes):
            few = classes.astype(np.int64).clip(0, len(MISSED) - 1)
            hidden = split * float((MISSED[few] / classes).sum()) / len(classes) ** 2
        unseen = math.hypot(math.sqrt(hidden), 1 / (rows + 2)) * (top - bottom)
        reach = critical(level, units) * math.hypot(standard_error(every, units), unseen)
        low = max(observed - reach, bottom - top)
        high = min(observed + reach, top - bottom)
    as_far = int((np.abs(swapped) >= abs(observed) - ROUNDING).sum())
    p_value = (1 + as_far) / (1 + draws)
    return Difference(name, observed, low, high, p_value, level, downwards, exact)


def mcnemar(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that a and b are right equally often; looks at rows they split."""
    from scipy.stats import binomtest

    only_a = int((a_right & ~b_right).sum())
    only_b = int((b_right & ~a_right).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def standard_error(sample: Floats, units: int) -> float:
    """The standard deviation of the figures [draws] of resamples, without the bias of drawing from
    so few units."""
    return float(sample.std(ddof=1)) * math.sqrt(units / max(units - 1, 1))


def critical(level: float, units: int) -> float:
    """Student's t: how many standard errors the interval of so many units reaches to each side."""
    from scipy.special import stdtrit

    return float(stdtrit(max(units - 1, 1), (1.0 + level) / 2))


def wilson(
    share: float, spread: float, known: int, units: int, level: float
) -> tuple[float, float]:
    """The interval of a share, 0 to 1, whose standard error is `spread`.

    `known` rows bear on it, out of `units`; as long as less than one of them is lost (or won),
    resamples cannot say what one may cost, and the interval is that of `known` rows.
    """
    if not known:
        return share, share
    margin = 1.0 - unseen_errors(known, level)
    if share >= 1.0 - ROUNDING:
        return 1.0 - margin, 1.0
    if share <= ROUNDING:
        return 0.0, margin
    rows = share * (1.0 - share) / spread**2 if spread > 0 else math.inf
    if units < 2 or min(share, 1.0 - share) * known < 1.0 - ROUNDING:
        rows = min(rows, known)
    if rows == math.inf:
        return share, share
    lean = critical(level, units) ** 2 / rows
    middle, reach = share + lean / 2, math.sqrt(lean * share * (1.0 - share) + lean**2 / 4)
    return (middle - reach) / (1.0 + lean), (middle + reach) / (1.0 + lean)


def hidden_variance(classes: NDArray[Any], share: float) -> float:
    """What is missing in the variance of a mean over classes with so few units [K] each.

    A class of n rows has the variance share x (1 - share) / n, `share` being that of the answers
    that are right; an nth of it is added. Resamples miss less than that (`MISSED`), but each class
    of few rows scores too low besides, which this makes up for: without it the truth is held in
    0.91 of test sets of 150 classes of 4 rows. In a difference of two systems it cancels.
    """
    return share * (1.0 - share) * float((1.0 / classes**2).sum()) / len(classes) ** 2


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
    measure: Measure, sample: _Sample, name: str, draws: int, seed: int
) -> Floats:
    """Differences [draws] with a's and b's answers swapped in each unit by a fair coin."""
    both, differences = np.concatenate(sample.rows), list[Floats]()
    if measure.repeats:
        measure = measure.with_counts(np.tile(sample.whole, 2))
    for stay, swap in sample.swaps(draws, seed):
        first = measure.weighted(both, np.concatenate([stay, swap], axis=1))
        second = measure.weighted(both, np.concatenate([swap, stay], axis=1))
        differences.append(first[name] - second[name])
    return np.concatenate(differences)


def unit_numbers(rows: int, groups: NDArray[Any] | None) -> tuple[int, NDArray[np.int64]]:
    """How many things are drawn, and which of them each row belongs to."""
    if groups is None:
        return rows, np.arange(rows)
    names, unit = np.unique(np.asarray(groups), return_inverse=True)
    return len(names), unit.reshape(-1).astype(np.int64)
