"""How sure a score is: bootstrap intervals over the test rows (Efron 1979).

To draw n rows with replacement is to draw the counts of the distinct (true, predicted) pairs from
a multinomial. There are few such pairs, so a thousand resamples of any test set cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats
from warmstart.metrics.bootstrap import (
    BLOCK,
    SIGNIFICANT,
    Interval,
    bounds,
    disputed,
    unseen_errors,
)
from warmstart.metrics.classification import METRICS, Ints, Tally, f1, tally


@dataclass(frozen=True, slots=True)
class Cells:
    """The distinct rows of a result: `count` [c], and the classes of each, [c] per column."""

    count: Ints
    columns: tuple[Ints, ...]

    @classmethod
    def of(cls, columns: Sequence[NDArray[Any]], k: int) -> Cells:
        """Group equal rows of parallel class-number arrays [n], values 0 to k - 1."""
        code = np.zeros(len(columns[0]), dtype=np.int64)
        for column in columns:
            code = code * k + np.asarray(column, dtype=np.int64)
        distinct, count = np.unique(code, return_counts=True)
        parts: list[Ints] = []
        for _ in columns:
            distinct, last = np.divmod(distinct, k)
            parts.append(last)
        return cls(count.astype(np.int64), tuple(reversed(parts)))


def tally_of_counts(counts: Floats, cells: Cells, k: int, predicted: Ints | None = None) -> Tally:
    """Tallies [draws, k] of resamples: `counts` [draws, c] of the cells.

    The first column of the cells is the truth; `predicted` [c] stands in place of the second.
    """
    y, given = cells.columns[0], cells.columns[1] if predicted is None else predicted
    eye = np.eye(k)
    right = eye[y] * (y == given)[:, None]
    rows = cells.count.astype(np.float64)
    whole = Tally(rows @ right, rows @ eye[given], rows @ eye[y])
    return Tally(counts @ right, counts @ eye[given], counts @ eye[y], whole)


def resamples(cells: Cells, draws: int, seed: int) -> Iterator[Floats]:
    """Counts of resampled rows, in blocks [<= draws, c] that stay small however many cells."""
    rng = np.random.default_rng(seed)
    rows = int(cells.count.sum())
    step = max(1, BLOCK // max(1, len(cells.count)))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        yield rng.multinomial(rows, cells.count / rows, size=size).astype(np.float64)


def resampled_tally(
    y: NDArray[Any], predicted: NDArray[Any], k: int, draws: int, seed: int
) -> Tally:
    """The tallies [draws, k] of `draws` bootstrap resamples of a result."""
    cells = Cells.of([y, predicted], k)
    blocks = resamples(cells, draws, seed)
    return joined([tally_of_counts(counts, cells, k) for counts in blocks])


def joined(blocks: Sequence[Tally]) -> Tally:
    """Blocks of tallies of one result as one."""
    return Tally(
        np.concatenate([b.right for b in blocks]),
        np.concatenate([b.predicted for b in blocks]),
        np.concatenate([b.actual for b in blocks]),
        blocks[0].whole,
    )


def metric_intervals(
    y: NDArray[Any], predicted: NDArray[Any], k: int, draws: int, level: float, seed: int
) -> tuple[dict[str, Interval], list[Interval]]:
    """Every metric with its interval, and the F1 of each class with its own.

    Where resampling sees no error at all (or, for a class, no success), the bound is the exact one
    of `unseen_errors`, on all rows or on those of the class.
    """
    whole = tally(y, predicted, k)
    drawn = resampled_tally(y, predicted, k, draws, seed)
    rows = len(y)
    scores = {
        name: _interval(float(metric(whole)), metric(drawn), rows, level)
        for name, metric in METRICS.items()
    }
    values, samples = f1(whole), f1(drawn)
    classes = [
        _interval(float(values[i]), samples[:, i], int(whole.actual[i]), level, lowest=0.0)
        for i in range(k)
    ]
    return scores, classes


def _interval(
    value: float, sample: Floats, rows: int, level: float, lowest: float | None = None
) -> Interval:
    """The percentile interval of a score, opened where it is at 1 or at its `lowest`."""
    low, high = bounds(sample, level)
    if rows and value == 1.0:
        low = min(low, unseen_errors(rows, level))
    if rows and value == lowest:
        high = max(high, 1.0 - unseen_errors(rows, level))
    return Interval(value, low, high)


# Is one result better than another on the same rows? Paired interval, and two paired tests.


@dataclass(frozen=True, slots=True)
class Paired:
    """a - b of one metric on the same rows, with interval and two tests.

    `p_value`: how often rows with a's and b's answers swapped at random differ as much, on this
    metric (Yeh 2000). `mcnemar_p`: McNemar's exact test, on accuracy (McNemar 1947).
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    mcnemar_p: float
    level: float

    @property
    def outcome(self) -> str:
        """One of "better", "worse" and "noise": interval and test must agree on a difference."""
        if self.low <= 0 <= self.high or self.p_value >= SIGNIFICANT:
            return "noise"
        return "better" if self.difference > 0 else "worse"

    @property
    def disputed(self) -> bool:
        """Whether only one of interval and test says that there is a difference."""
        return disputed(self.low, self.high, self.p_value)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, enough to make it again."""
        return asdict(self)


def paired(
    y: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    k: int,
    metric: str = "f1_macro",
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Paired:
    """Compare predictions `a` with `b`, both class numbers [n], against the truth `y` [n]."""
    cells = Cells.of([y, a, b], k)
    observed = float(_differences(cells, cells.count[None].astype(np.float64), metric, k)[0])
    drawn = [_differences(cells, counts, metric, k) for counts in resamples(cells, draws, seed)]
    low, high = bounds(np.concatenate(drawn), level)
    swapped = _swapped_differences(cells, metric, k, draws, seed + 1)
    as_far = int((np.abs(swapped) >= abs(observed) - 1e-12).sum())
    return Paired(
        metric=metric,
        difference=observed,
        low=low,
        high=high,
        p_value=(1 + as_far) / (1 + draws),
        mcnemar_p=mcnemar(np.asarray(a) == y, np.asarray(b) == y),
        level=level,
    )


def mcnemar(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> float:
    """Exact two-sided p-value that a and b are right equally often; looks at rows they split."""
    from scipy.stats import binomtest

    only_a = int((a_right & ~b_right).sum())
    only_b = int((b_right & ~a_right).sum())
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _differences(cells: Cells, counts: Floats, metric: str, k: int) -> Floats:
    """The metric of a minus that of b for each row of `counts` [draws, c] -> [draws]."""
    _, a, b = cells.columns
    score = METRICS[metric]
    return score(tally_of_counts(counts, cells, k, a)) - score(tally_of_counts(counts, cells, k, b))


def _swapped_differences(cells: Cells, metric: str, k: int, draws: int, seed: int) -> Floats:
    """Differences [draws] with a's and b's answers swapped in each row by a fair coin."""
    rng = np.random.default_rng(seed)
    y, a, b = cells.columns
    columns = (np.tile(y, 2), np.concatenate([a, b]), np.concatenate([b, a]))
    both = Cells(np.tile(cells.count, 2), columns)
    step = max(1, BLOCK // (2 * len(cells.count)))
    found: list[Floats] = []
    for start in range(0, draws, step):
        size = (min(step, draws - start), len(cells.count))
        swap = rng.binomial(cells.count, 0.5, size=size)
        counts = np.concatenate([cells.count - swap, swap], axis=1).astype(np.float64)
        found.append(_differences(both, counts, metric, k))
    return np.concatenate(found)
