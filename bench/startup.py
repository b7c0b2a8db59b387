"""How long the command line takes before it says anything: help, and the answer for one text.

    python bench/startup.py

help         `warmstart --help` against `transformers --help`: wanted under 0.4 s
one answer   `warmstart predict MODEL "text"` against a Python process with
             `pipeline("text-classification")` on the same folder, by turns

Wall seconds of whole processes, from start to exit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import SAMPLES, parser
from _report import announce, close, table

TEXT = "my parcel never came"
PIPELINE = """
import sys
from transformers import pipeline
print(pipeline("text-classification", sys.argv[1])(sys.argv[2]))
"""


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    facts = announce("Starting", SAMPLES.name)
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        run = str(Path(folder) / "run")
        here = Path(sys.executable).parent
        tuned = [str(here / "warmstart"), "tune", str(SAMPLES), "--method", "frozen", "--out", run]
        seconds_of([*tuned, "--evaluate.baselines", "false"])
        commands = {
            "help, warmstart": [str(here / "warmstart"), "--help"],
            "help, transformers": [str(here / "transformers"), "--help"],
            "one answer, warmstart": [str(here / "warmstart"), "predict", run, TEXT],
            "one answer, pipeline": [sys.executable, "-c", PIPELINE, f"{run}/model", TEXT],
        }
        took: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(1 if asked.quick else asked.repeats):
            for name, command in commands.items():
                took[name].append(seconds_of(command))
    table(
        ["", "s, median", "range"],
        [
            [name, f"{statistics.median(s):.2f}", f"{min(s):.2f}–{max(s):.2f}"]
            for name, s in took.items()
        ],
    )
    facts["seconds"] = took
    close(facts, asked.json)
    return 0


def seconds_of(command: list[str]) -> float:
    """Seconds that a command took; it must succeed."""
    start = time.perf_counter()
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
