"""Methods on the same rows: which is best, which differences are noise, which is the better buy.

Each method is judged by its mean over the seeds. The best is compared with every other one: a
paired interval and a paired test over the test rows (Yeh 2000), the p-values corrected for the
number of comparisons (Holm 1979). Where there are several seeds, the other method must also be
worse with each of them before a difference counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores
from warmstart.metrics.bootstrap import SIGNIFICANT, difference, intervals
from warmstart.metrics.classification import METRICS, ClassMeasure


class SeedMean(Measure):
    """The mean over seeds: statistics [n, seeds x S] of one method, seed after seed."""

    def __init__(self, measure: Measure, seeds: int) -> None:
        self.measure, self.seeds = measure, seeds

    def weighted(self, rows: Floats, weights: Floats) -> Scores:
        """The mean of each figure, [...]."""
        seeds = np.split(rows, self.seeds, axis=-1)
        parts = [self.measure.weighted(part, weights) for part in seeds]
        return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}

    def highest(self, name: str) -> float | None:
        return self.measure.highest(name)

    def lowest(self, name: str) -> float:
        return self.measure.lowest(name)

    def class_units(self, rows: Floats, unit: NDArray[np.int64]) -> NDArray[np.int64] | None:
        return self.measure.class_units(np.split(rows, self.seeds, axis=-1)[0], unit)

    def discord(self, a: Floats, b: Floats) -> float:
        ours, theirs = (np.split(rows, self.seeds, axis=-1) for rows in (a, b))
        pairs = zip(ours, theirs, strict=True)
        return float(np.mean([self.measure.discord(*pair) for pair in pairs]))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Single labels of the same test rows by several runs, as class numbers.

    `predicted` is run → [n]; `truth` [n]; `k` classes; `groups` [n] are equal for rows that count
    as one.
    """

    truth: NDArray[np.int64]
    predicted: dict[str, NDArray[np.int64]]
    k: int
    groups: NDArray[Any] | None = None

    @classmethod
    def of(
        cls,
        tables: dict[str, pa.Table],
        labels: Sequence[str],
        main: str,
        groups: NDArray[Any] | None = None,
    ) -> Answers | None:
        """From each run's predictions.parquet; None where they are no single labels of the same
        rows, or the figure `main` is not of single labels."""
        number = {label: i for i, label in enumerate(labels)}
        truth: NDArray[np.int64] | None = None
        predicted: dict[str, NDArray[np.int64]] = {}
        if main not in METRICS:
            return None
        for name, table in tables.items():
            if not {"label", "prediction"} <= set(table.column_names):
                return None
            own, predicted[name] = (
                np.array([number.get(value, -1) for value in table[column].to_pylist()])
                for column in ("label", "prediction")
            )
            truth = own if truth is None else truth
            if min(own.min(), predicted[name].min()) < 0 or not np.array_equal(own, truth):
                return None
        return None if truth is None else cls(truth, predicted, len(labels), groups)

    def measure(self, seeds: int) -> SeedMean:
        """The measure of a method with so many seeds."""
        return SeedMean(ClassMeasure(self.k), seeds)

    def rows(self, runs: Sequence[str]) -> Floats:
        """Statistics [n, 2 runs] of the runs of one method."""
        measure = ClassMeasure(self.k)
        return np.hstack([measure.rows(self.predicted[run], self.truth) for run in runs])


BEST, NOISE, WORSE, UNKNOWN = "best", "noise", "worse", "unknown"


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished run: `score` is {"value", "low", "high"} of the main figure on the test rows."""

    name: str
    method: str
    seed: int
    score: Mapping[str, float]
    trainable: int
    file_bytes: int
    seconds: float
    peak_memory_mb: float | None = None
    energy_joules: float | None = None
    validation_score: float | None = None
    kept_epoch: int | None = None


@dataclass(slots=True)
class Standing:
    """A method over its seeds. Costs are means; `low` and `high` are None where not known."""

    method: str
    runs: list[str]
    seeds: list[int]
    scores: list[float]
    value: float
    spread: float | None
    """Standard deviation over the seeds."""
    low: float | None
    high: float | None
    trainable: int
    file_bytes: int
    seconds: float
    peak_memory_mb: float | None
    energy_joules: float | None
    outcome: str = UNKNOWN
    against: dict[str, Any] = field(default_factory=dict[str, Any])
    """This one minus the best: difference, low, high, p_value (Holm), worse_seeds."""


def standings(
    trials: Sequence[Trial],
    answers: Answers | None,
    main: str,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Standing]:
    """The methods, the best first; each with how it stands against the best.

    Without `answers` there is no paired test: two methods then differ where their intervals do.
    """
    methods = list(dict.fromkeys(trial.method for trial in trials))
    table = [_standing([t for t in trials if t.method == method]) for method in methods]
    settings: dict[str, Any] = {"draws": draws, "level": level, "seed": seed}
    settings |= {"groups": None if answers is None else answers.groups}
    for row in table:
        if answers is not None and len(row.runs) > 1:
            over = intervals(answers.measure(len(row.runs)), answers.rows(row.runs), **settings)
            row.low, row.high = over[main].low, over[main].high
    table.sort(key=lambda row: (-row.value, row.trainable))
    best, others = table[0], table[1:]
    best.outcome = BEST
    for row in others:
        row.against = _against(row, best, answers, main, settings)
    _holm([row.against for row in others if row.against.get("p_value") is not None])
    for row in others:
        row.outcome = _outcome(row, best)
    return table


def better_buy(table: Sequence[Standing], level: float = 0.95) -> Standing:
    """The method with the fewest trained weights among those as good as the best.

    As good: the difference is noise, and no more than its own standard error, which is the
    one-standard-error rule (Breiman et al. 1984).
    """
    width = 2 * NormalDist().inv_cdf((1 + level) / 2)
    good = [table[0]]
    for row in table[1:]:
        if row.outcome != NOISE or "low" not in row.against:
            continue
        error = (row.against["high"] - row.against["low"]) / width
        if -row.against["difference"] <= error:
            good.append(row)
    return min(good, key=lambda row: (row.trainable, -row.value))


def _standing(trials: Sequence[Trial]) -> Standing:
    scores = [trial.score["value"] for trial in trials]
    alone = trials[0].score if len(trials) == 1 else {}
    return Standing(
        method=trials[0].method,
        runs=[trial.name for trial in trials],
        seeds=[trial.seed for trial in trials],
        scores=scores,
        value=fmean(scores),
        spread=stdev(scores) if len(scores) > 1 else None,
        low=alone.get("low"),
        high=alone.get("high"),
        trainable=trials[0].trainable,
        file_bytes=round(fmean(trial.file_bytes for trial in trials)),
        seconds=fmean(trial.seconds for trial in trials),
        peak_memory_mb=_mean([trial.peak_memory_mb for trial in trials]),
        energy_joules=_mean([trial.energy_joules for trial in trials]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of what was measured, where all of it was."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _against(
    row: Standing, best: Standing, answers: Answers | None, main: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """A method minus the best, on the seeds that both have."""
    pairs = [
        (row.seeds.index(seed), best.seeds.index(seed)) for seed in row.seeds if seed in best.seeds
    ]
    known: dict[str, Any] = {
        "best": best.method,
        "difference": row.value - best.value,
        "p_value": None,
        "seeds": len(pairs),
        "worse_seeds": sum(row.scores[a] < best.scores[b] for a, b in pairs),
    }
    if answers is None or not pairs:
        return known
    ours = answers.rows([row.runs[a] for a, _ in pairs])
    theirs = answers.rows([best.runs[b] for _, b in pairs])
    gap = difference(answers.measure(len(pairs)), ours, theirs, main, **settings)
    return known | {
        "difference": gap.difference, "low": gap.low, "high": gap.high, "p_value": gap.p_value,
    }  # fmt: skip


def _holm(compared: Sequence[dict[str, Any]]) -> None:
    """Replace the p-values by Holm's, which hold for all comparisons together."""
    largest = 0.0
    for done, row in enumerate(sorted(compared, key=lambda row: row["p_value"])):
        largest = max(largest, min(1.0, row["p_value"] * (len(compared) - done)))
        row["p_value"] = largest


def _outcome(row: Standing, best: Standing) -> str:
    """ "worse" where interval, test and every seed agree; else "noise"; "unknown" without any."""
    against = row.against
    every_seed = against["worse_seeds"] == against["seeds"]
    if against["p_value"] is not None:
        clear = against["high"] < 0 and against["p_value"] < SIGNIFICANT
        return WORSE if clear and every_seed else NOISE
    if row.high is None or best.low is None:
        return UNKNOWN
    return WORSE if row.high < best.low else NOISE
