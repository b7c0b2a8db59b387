"""How sure a score is, and whether two differ: bootstrap over rows (Efron 1979), for any Measure.

A resample is a vector of weights: how often each row was drawn. `Measure.weighted` scores a block
of such vectors at once, so a thousand resamples cost one product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores

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
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    lower_is_better: bool = False

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
        return asdict(self)


def disputed(low: float, high: float, p_value: float) -> bool:
    """Whether an interval of a difference and a test of it disagree: few rows make them."""
    return (low <= 0 <= high) != (p_value >= SIGNIFICANT)


def resampled_weights(
    rows: int, draws: int, seed: int, groups: NDArray[Any] | None = None
) -> Iterator[Floats]:
    """How often each row is drawn, in blocks [<= draws, rows].

    With `groups` [rows] whole groups are drawn instead of rows: for rows that belong together, as
    questions on the same passage do, single draws would claim too much certainty.
    """
    rng = np.random.default_rng(seed)
    units, of_row = _units(rows, groups)
    step = max(1, BLOCK // max(1, rows))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        picks = rng.integers(0, units, (size, units))
        picks += units * np.arange(size)[:, None]
        counts = np.bincount(picks.ravel(), minlength=size * units).reshape(size, units)
        yield (counts if of_row is None else counts[:, of_row]).astype(np.float64)


def resampled_scores(
    measure: Measure, rows: Floats, draws: int, seed: int, groups: NDArray[Any] | None = None
) -> Scores:
    """Each figure of `draws` resamples of the rows [n, S]: name → [draws]."""
    drawn = resampled_weights(len(rows), draws, seed, groups)
    return _joined([measure.weighted(rows, weights) for weights in drawn])


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
    bound is the exact one of `unseen_errors`; where it is 0, the high bound is its mirror image.
    """
    value = measure.total(rows)
    drawn = resampled_scores(measure, rows, draws, seed, groups)
    bearing = measure.bearing(rows)
    whole = len(rows) if groups is None else _units(len(rows), groups)[0]
    found: dict[str, Interval] = {}
    for name, figure in value.items():
        low, high = bounds(drawn[name], level)
        margin = 1.0 - unseen_errors(min(whole, bearing.get(name, whole)), level)
        top = measure.highest(name)
        if top is not None and figure >= top * (1.0 - ROUNDING):
            low = min(low, top * (1.0 - margin))
        if top is not None and figure == 0.0:
            high = max(high, top * margin)
        found[name] = Interval(figure, low, high)
    return found


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
    observed = measure.total(a)[name] - measure.total(b)[name]
    drawn = np.concatenate(
        [
            measure.weighted(a, weights)[name] - measure.weighted(b, weights)[name]
            for weights in resampled_weights(len(a), draws, seed, groups)
        ]
    )
    low, high = bounds(drawn, level)
    swapped = _swapped_differences(measure, a, b, name, draws, seed + 1, groups)
    as_far = int((np.abs(swapped) >= abs(observed) - ROUNDING).sum())
    p_value = (1 + as_far) / (1 + draws)
    downwards = name in measure.lower_is_better
    return Difference(name, observed, low, high, p_value, level, downwards)


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
    draws: int,
    seed: int,
    groups: NDArray[Any] | None,
) -> Floats:
    """Differences [draws] with a's and b's answers swapped in each row by a fair coin."""
    rng = np.random.default_rng(seed)
    units, of_row = _units(len(a), groups)
    both = np.concatenate([a, b])
    step = max(1, BLOCK // (2 * max(1, len(a))))
    found: list[Floats] = []
    for start in range(0, draws, step):
        swap = rng.integers(0, 2, (min(step, draws - start), units)).astype(np.float64)
        swap = swap if of_row is None else swap[:, of_row]
        first = measure.weighted(both, np.concatenate([1 - swap, swap], axis=1))
        second = measure.weighted(both, np.concatenate([swap, 1 - swap], axis=1))
        found.append(first[name] - second[name])
    return np.concatenate(found)


def _units(rows: int, groups: NDArray[Any] | None) -> tuple[int, NDArray[np.int64] | None]:
    """How many things are drawn, and which of them each row belongs to (None: its own)."""
    if groups is None:
        return rows, None
    names, of_row = np.unique(np.asarray(groups), return_inverse=True)
    return len(names), of_row.reshape(-1).astype(np.int64)


def _joined(blocks: list[Scores]) -> Scores:
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
