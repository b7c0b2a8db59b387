"""Peak memory of `warmstart.tune` on 3,000 and on 300,000 rows.

    python bench/memory.py                            # full, 150 steps at either size
    python bench/memory.py --methods full,frozen      # frozen goes through every row: long
    python bench/memory.py --big 30000 --steps 0      # full, whole epochs with evaluation

The rows are as many of the data as the small file has, repeated with a number of six digits behind
each text, so that no two are equal, none is dropped as a duplicate, and either file has texts of
the same lengths; one CSV file, cut into train, validation and test by warmstart itself.

A whole epoch of `full` on 240,000 rows takes the better part of an hour on two cores, and memory
does not depend on how far it has come. So a listener sends this process SIGINT after `--steps`
steps: warmstart saves a checkpoint, as after Ctrl-C, and ends; the peak holds reading, splitting,
tokenising, training and the checkpoint at the full size, but no validation and no evaluation.
Those are in the peak of `frozen`, which computes, trains on and evaluates every row, with
baselines, and of `full` with `--steps 0`. Both sizes are always treated alike. Each measurement has
a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import Rows, hand_back, parser, peak_mb, run_worker, splits_of, write_rows
from _report import Measures, announce, close, table

METHODS = ("full", "frozen", "lora")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--methods", default="full", help=f"any of {','.join(METHODS)}")
    words.add_argument("--small", type=int, default=3_000)
    words.add_argument("--big", type=int, default=300_000)
    words.add_argument("--steps", type=int, default=150, help="of full and lora; 0: a whole epoch")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    if asked.quick:
        asked.small, asked.big, asked.steps = 300, 3_000, 5
    splits, data = splits_of(asked.data)
    facts = announce("Memory", data)
    rows = [row for part in splits.values() for row in part][: asked.small]
    found: Measures = {}
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        for size in (asked.small, asked.big):
            path = Path(folder) / f"rows-{size}.csv"
            write_rows(path, repeated(rows, size))
            for method in asked.methods.split(","):
                keys = {"data": str(path), "precision": asked.precision, "steps": asked.steps}
                result = run_worker(__file__, method, keys)
                found.setdefault(method, []).append({"file_rows": size, **result})
                line = f"{method}, {size} rows: {result['peak_mb']:.0f} MB, "
                print(line + str(result["marks"]), file=sys.stderr, flush=True)
    show(found)
    close({**facts, "peaks": found}, asked.json)
    return 0


def repeated(rows: Rows, size: int) -> Rows:
    """`size` rows, no two with the same text."""
    return [(f"{rows[i % len(rows)][0]} {i:06d}", rows[i % len(rows)][1]) for i in range(size)]


def show(found: Measures) -> None:
    """The peaks, and the growth."""
    lines: list[list[str]] = []
    for method, (small, big) in found.items():
        growth = 100 * (big["peak_mb"] / small["peak_mb"] - 1)
        line = [method, f"{small['file_rows']:,} → {big['file_rows']:,}"]
        line += [f"{small['peak_mb']:.0f}", f"{big['peak_mb']:.0f}", f"{growth:+.1f} %"]
        lines.append([*line, "ended early" if big["stopped"] else "to the end"])
    table(["", "rows", "peak RSS MB, few", "peak RSS MB, many", "growth", "run"], lines)
    print("Where the peak stood at (MB, few / many):")
    for method, (small, big) in found.items():
        for mark, value in small["marks"].items():
            print(f"- {method}, {mark}: {value:.0f} / {big['marks'].get(mark, 0):.0f}")


def work(method: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    import warmstart
    from warmstart.training.loop import Step
    from warmstart.training.progress import Interrupted
    from warmstart.types import Listener

    limit = request["steps"] if method != "frozen" else 0
    marks: dict[str, float] = {}

    class Stop(Listener):
        def step(self, step: Step, total: int) -> None:
            if step.index == 1:
                marks["after the first step"] = peak_mb()
            if step.index == limit:
                marks["after the last step"] = peak_mb()
                os.kill(os.getpid(), signal.SIGINT)

        def epoch(self, row: dict[str, Any]) -> None:
            marks["after the validation"] = peak_mb()

    stopped = False
    try:
        warmstart.tune(
            request["data"],
            method=method,
            out=str(Path(request["folder"]) / "run"),
            listeners=[Stop()],
            **{
                "train.epochs": 1,
                "train.batch_size": 16,
                "train.precision": request["precision"],
                "train.device": "cpu",
                "task.max_length": 128,
                "evaluate.baselines": True,
            },
        )
    except Interrupted:
        stopped = True
    marks["at the end"] = peak_mb()
    hand_back(request, stopped=stopped, marks=marks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
