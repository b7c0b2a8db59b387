"""Scaling on paper: what more compute would bring, from a few small runs that were made.

fit = warmstart.scaling(["runs/nano", "runs/tiny", "runs/mini"], compute=1e16)
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from warmstart.errors import RecipeError, RunError, shown
from warmstart.run import Run

FEWEST = 3
FURTHEST = 30.0
"""Times the largest compute of a run, beyond which nothing is said."""
APART = 3.0
"""Times that the largest run computes more than the smallest, at least."""
STEPS = (3.0, 10.0, 30.0)
LEVEL = 0.95
BYTES = {"weights": 4, "gradients": 4, "what AdamW remembers": 8, "the kept weights": 4}
"""Of each weight in training, in float32."""
UNITS = {"bits_per_byte": "bits per byte", "loss": "nats a token"}


class Point(NamedTuple):
    """A run: operations are those of the whole training, `rate` a second."""

    run: str
    parameters: int
    tokens: int
    operations: float
    value: float
    rate: float


def scaling(
    runs: Sequence[str | os.PathLike[str]],
    *,
    compute: float | None = None,
    parameters: float | None = None,
    tokens: float | None = None,
    rate: float | None = None,
    price: float | None = None,
) -> dict[str, Any]:
    """Fit the loss of pretraining runs against their compute, L = a · C^-b, and say what more
    compute would bring, with the interval in which another run should lie (95 %).

    The line is least squares of the logarithms; the interval is that of a new point (Student's t
    with n - 2 degrees of freedom), so three runs that hardly agree say next to nothing, and it
    shows. A power law without a floor is hopeful far out: nothing is said beyond 30 times the
    largest run.

    Args:
        runs: three or more `pretrain` runs on the same documents, of different sizes or lengths.
        compute: operations (FLOP) to ask for; or
        parameters, tokens: of the run to ask for, which computes 6 · parameters · tokens times
            what the runs here did of theirs (embeddings multiply nothing, attention does; a masked
            model's head reads few tokens).
        rate: operations a second of the machine that it would be made on; unset: that of the
            quickest of the runs.
        price: of an hour of it.

    Raises `RecipeError` where too little is known, or too much is asked.
    """
    _check_numbers(compute=compute, parameters=parameters, tokens=tokens, rate=rate, price=price)
    points = [_point(run) for run in dict.fromkeys(os.fspath(run) for run in runs)]
    figure = _figure(points)
    rows = sorted((point for point, _ in points), key=lambda point: point.operations)
    largest, smallest = rows[-1].operations, rows[0].operations
    if largest < APART * smallest:
        raise RecipeError(
            f"the runs compute {smallest:.3g} to {largest:.3g} operations, less than {APART:g} "
            "times as many: too near each other to draw a line through; make one that is larger or "
            "longer"
        )
    a, b, interval = _fitted(rows)
    wanted = _wanted(compute, parameters, tokens, rows)
    _check_reach(wanted, smallest, largest)
    targets = [times * largest for times in STEPS] if wanted is None else [wanted]
    speed = rate or max(point.rate for point in rows)
    predictions = [_prediction(c, a, b, interval(c), speed, price, largest) for c in targets]
    size = parameters
    return {
        "figure": figure,
        "unit": UNITS[figure],
        "runs": [point._asdict() for point in rows],
        "fit": {"a": a, "b": b, "confidence_level": LEVEL, "degrees_of_freedom": len(rows) - 2},
        "rate": speed,
        "rate_of": "as given" if rate else "the quickest of the runs",
        "predictions": predictions,
        "memory_bytes": None if size is None else {k: size * n for k, n in BYTES.items()},
        "notes": _notes(rows, b, interval(largest)),
    }


def _check_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise RecipeError(f"{name} {value:g}: give a number above 0")


def _check_reach(wanted: float | None, smallest: float, largest: float) -> None:
    """Raise `RecipeError` where the question lies too far from the runs."""
    if wanted is None:
        return
    if wanted > FURTHEST * largest * 1.0001:
        raise RecipeError(
            f"{wanted:.3g} operations are {wanted / largest:,.0f} times those of the largest run "
            f"({largest:.3g}); beyond {FURTHEST:g} times nothing can be said: make a run of "
            f"{wanted / FURTHEST:.3g} first"
        )
    if wanted < smallest / FURTHEST:
        raise RecipeError(
            f"{wanted:.3g} operations are less than the smallest run's ({smallest:.3g}) by more "
            f"than {FURTHEST:g} times; ask for more, or make a run of that size: it is quickly done"
        )


def _wanted(
    compute: float | None, parameters: float | None, tokens: float | None, rows: Sequence[Point]
) -> float | None:
    """The operations that are asked for."""
    if compute is not None and (parameters or tokens):
        raise RecipeError("--compute says it all: leave out --parameters and --tokens")
    if (parameters is None) != (tokens is None):
        raise RecipeError("a run computes about 6 x parameters x tokens: give both, or --compute")
    if parameters is not None and tokens is not None:
        own = median(row.operations / (6.0 * row.parameters * row.tokens) for row in rows)
        return own * 6.0 * parameters * tokens
    return compute


def _point(place: str) -> tuple[Point, Run]:
    """What a run is in the fit. Raises `RunError` where it is no such run."""
    run = Run(place)
    if run.status != "done":
        raise RunError(f"{place} is not done; go on with it first")
    speed, metrics = run.facts["speed"], run.metrics
    tokens = int(speed.get("tokens_trained") or 0)
    if "perplexity" not in metrics or not tokens:
        raise RunError(f"{place} is no run of pretrain, or one of an older version: its tokens and "
                       "its loss are not known")  # fmt: skip
    weights = int(run.facts["size"]["parameters"])
    operations = float(speed.get("operations") or 6.0 * weights * tokens)
    value = metrics.get("bits_per_byte", metrics["loss"])["value"]
    rate = operations / max(float(speed["seconds"]), 1e-9)
    return Point(shown(place, 60), weights, tokens, operations, float(value), rate), run


def _figure(points: Sequence[tuple[Point, Run]]) -> str:
    """What is fitted. Raises `RecipeError` where the runs cannot be compared."""
    if len(points) < FEWEST:
        raise RecipeError(f"{len(points)} runs: a line needs {FEWEST} or more of different compute")
    facts = [run.facts for _, run in points]
    if len({own["fingerprint"] for own in facts}) > 1:
        raise RecipeError(
            "the runs are of other documents: losses on different texts make no line; pretrain all "
            "of them on the same corpus, with the same seed of the splits"
        )
    if len({_held_out(run) for _, run in points}) > 1:
        raise RecipeError(
            "the runs are judged on other held-out documents: losses on different texts make no "
            "line; pretrain all of them with the same data.split_seed and fractions"
        )
    whole = {"bits_per_byte" in run.metrics for _, run in points}
    if len(whole) > 1:
        raise RecipeError("only some of the runs have bits per byte: fit those of one objective")
    if whole == {True}:
        return "bits_per_byte"
    objectives = {run.recipe.objective.part_name() for _, run in points}
    if len(objectives) > 1:
        raise RecipeError(f"the losses of {' and '.join(sorted(objectives))} are of other tasks; "
                          "fit runs of one objective")  # fmt: skip
    if len({_tokenizer(run) for _, run in points}) > 1:
        raise RecipeError(
            "the runs have different tokenizers, and nats a token of one are not those of another; "
            "fit runs with one (--tokenizer FOLDER), or decoders, which have bits per byte"
        )
    return "loss"


def _held_out(run: Run) -> frozenset[tuple[str, int]]:
    """The file and line of each document that a run is judged on."""
    import pyarrow.parquet as pq

    path = run.path / "predictions.parquet"
    if not path.is_file():
        return frozenset()
    table = pq.read_table(path, columns=["file", "line"]).to_pydict()
    return frozenset(zip(table["file"], table["line"], strict=True))


def _tokenizer(run: Run) -> str:
    path = run.path / "model" / "tokenizer.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _fitted(rows: Sequence[Point]) -> tuple[float, float, Any]:
    """a and b of L = a · C^-b, and what gives the factor by which a new run may lie off."""
    from scipy.stats import t as student

    x = np.log([point.operations for point in rows])
    y = np.log([point.value for point in rows])
    slope, height = np.polyfit(x, y, 1)
    degrees, mean = len(x) - 2, x.mean()
    error = math.sqrt(float(((y - slope * x - height) ** 2).sum()) / degrees)
    spread = float(((x - mean) ** 2).sum())
    reach = float(student.ppf(0.5 + LEVEL / 2, degrees))

    def factor(operations: float) -> float:
        away = (math.log(operations) - mean) ** 2 / spread
        return math.exp(min(reach * error * math.sqrt(1 + 1 / len(x) + away), 700.0))

    return math.exp(height), -float(slope), factor


def _prediction(
    target: float, a: float, b: float, factor: float, rate: float, price: float | None,
    largest: float,
) -> dict[str, Any]:  # fmt: skip
    value, hours = a * target**-b, target / rate / 3600
    return {
        "operations": target, "times_the_largest": target / largest, "value": value,
        "low": value / factor, "high": value * factor, "hours": hours,
        "cost": None if price is None else hours * price,
    }  # fmt: skip


def _notes(rows: Sequence[Point], b: float, factor: float) -> list[str]:
    notes: list[str] = []
    if b <= 0:
        notes.append("The loss does not fall with compute in these runs: they differ in something "
                     "else (learning rate, length), and the line says nothing.")  # fmt: skip
    elif factor > 1.2:
        notes.append(
            f"The runs lie off a line by so much that a new one may be {factor - 1:.0%} off at the "
            "largest compute already; more runs narrow it."
        )
    if len(rows) == FEWEST:
        notes.append("Three runs leave one degree of freedom, so the intervals are wide; five say "
                     "much more.")  # fmt: skip
    notes.append("A power law has no floor, and real losses have one: far out expect more.")
    return notes
