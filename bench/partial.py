"""The top layers on cached states: what an epoch of `partial` costs beside one of `full`.

    python bench/partial.py
    python bench/partial.py --layers 3 --repeats 5

The peers are warmstart's own `full`, and `partial` with the frozen prefix computed anew in each
epoch (`method.cached false`). Rows a second of each epoch, from before its first batch is planned
until after its last step; what the prefix gives is computed before the first, and its seconds
stand apart. Each measurement has a process of its own; the rounds are interleaved and their
order rotates.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from _common import contestants, folder_with, hand_back, parser, rotated, splits_of
from _report import Measures, announce, close, column, mean_sd, measure, ratios, spread, table

METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "not cached": {"method": "partial", "method.cached": False},
    "partial": {"method": "partial"},
}


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--workers", default=",".join(METHODS), help="who takes part")
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--rows", type=int, default=1600, help="training rows; 0: all")
    words.add_argument("--epochs", type=int, default=3)
    words.add_argument("--layers", type=int, default=2, help="layers that move")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, tuple(METHODS))
    if asked.quick:
        asked.repeats, asked.rows, asked.epochs = 1, 96, 2
    splits, said = splits_of(asked.data)
    facts = announce("Cached states", said)
    facts["rounds"] = rounds(splits, names, asked)
    close(facts, asked.json)
    return 0


def rounds(splits: Any, names: list[str], asked: argparse.Namespace) -> Measures:
    """Interleaved rounds, told as a table."""
    found: Measures = {name: [] for name in names}
    keys = {"epochs": asked.epochs, "layers": asked.layers, "precision": asked.precision}
    with folder_with(splits, asked.rows or None) as data:
        for number in range(asked.repeats):
            for name in rotated(names, number):
                request = {**keys, "data": str(data), "seed": number}
                measure(__file__, found, name, request, number, told)
    ours = found.get("partial", [])
    rows = [
        [
            name,
            spread(column(results, "feature_seconds")),
            spread(column(results, "rows_per_second")),
            spread(column(results, "later_rows_per_second")),
            ratios(ours, results, "later_rows_per_second"),
            mean_sd(column(results, "score")),
        ]
        for name, results in found.items()
    ]
    print(f"\n### {asked.layers} layers move, {asked.repeats} rounds, median (range)")
    head = [
        "",
        "s for the prefix",
        "rows/s, epoch 1",
        "rows/s, later epochs",
        "partial is",
        "macro-F1",
    ]
    table(head, rows)
    return found


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    return f"{result['later_rows_per_second']:.1f} rows/s, macro-F1 {result['score']:.4f}"


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    import warmstart
    from _warmstart import Clock

    class Epochs(Clock):
        """Keeps the rows a second of each epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.rates: list[float] = []
            self.counted = 0

        def step(self, step: Any, total: int) -> None:
            super().step(step, total)
            self.counted += step.rows
            if step.ends_epoch:
                self.rates.append(self.counted / (time.perf_counter() - self.begun))
                self.counted = 0

    keys = dict(METHODS[name])
    if keys["method"] == "partial":
        keys["method.layers"] = request["layers"]
    with Epochs() as clock:
        run = warmstart.tune(
            Path(request["data"]), seed=request["seed"], out=str(Path(request["folder"]) / "run"),
            listeners=[clock],
            **{
                **keys, "train.epochs": request["epochs"], "train.precision": request["precision"],
                "train.patience": 0, "train.checkpoint_seconds": 1e9, "evaluate.baselines": False,
            },
        )  # fmt: skip
    hand_back(
        request,
        rows_per_second=clock.rates[0],
        later_rows_per_second=median(clock.rates[1:]),
        feature_seconds=run.facts["speed"]["feature_seconds"],
        score=run.metrics["f1_macro"]["value"],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
