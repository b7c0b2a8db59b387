"""Is one result better than another on the same rows? Paired interval, and two paired tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from warmstart.evaluate.intervals import Cells, resamples, tally_of_counts
from warmstart.evaluate.metrics import METRICS
from warmstart.scores.bootstrap import BLOCK, SIGNIFICANT, bounds, disputed
from warmstart.scores.measure import Floats


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
