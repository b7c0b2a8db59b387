"""Training on a machine that also works: rows a second beside 0, 1 and 2 busy processes.

    python bench/busy.py

Each cell is a whole `warmstart tune` in a process of its own, and the rows a second that it
reports. The busy processes compute in Python, one core each. `spinning` is what OpenMP does unless
it is told: threads that wait keep their cores; warmstart has them sleep. Wanted: beside two busy
processes on two cores at least 25 % of the quiet speed, and when quiet no less than spinning.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _common import SAMPLES, parser
from _report import announce, close, table

WAITS = {"sleeping": "PASSIVE", "spinning": "ACTIVE"}
BUSY = "while True: pass"


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--steps", type=int, default=60)
    asked = words.parse_args()
    facts = announce("Beside other work", SAMPLES.name)
    steps, repeats = (20, 1) if asked.quick else (asked.steps, asked.repeats)
    speeds: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for others in (0, 1, 2):
            with busy(others):
                for wait in WAITS:
                    speeds.setdefault((wait, others), []).append(rows_a_second(wait, steps))
    rows = {
        wait: [statistics.median(speeds[wait, others]) for others in (0, 1, 2)] for wait in WAITS
    }
    table(
        ["threads that wait", "alone", "beside 1", "beside 2", "beside 2, share"],
        [
            [wait, *(f"{speed:.1f}" for speed in row), f"{row[2] / row[0]:.0%}"]
            for wait, row in rows.items()
        ],
    )
    facts["rows_per_second"] = rows
    close(facts, asked.json)
    return 0


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Inside, so many other processes take a core each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def rows_a_second(wait: str, steps: int) -> float:
    """Of a run that trains every weight of the base that comes with us."""
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        out = str(Path(folder) / "run")
        command = [sys.executable, "-m", "warmstart", "tune", str(SAMPLES), "--method", "full"]
        command += ["--train.max_steps", str(steps), "--evaluate.baselines", "false"]
        command += ["--evaluate.forgetting", "false", "--out", out]
        environment = {**os.environ, "OMP_WAIT_POLICY": WAITS[wait]}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return float(
            json.loads((Path(out) / "metrics.json").read_text())["speed"]["rows_per_second"]
        )


if __name__ == "__main__":
    raise SystemExit(main())
