"""Tasks with an answer for every token: warmstart against the tuned `transformers.Trainer`.

    python bench/tasks.py                       # all tasks, 3 rounds, a seed each
    python bench/tasks.py --tasks tagging --rows 800 --epochs 1
    python bench/tasks.py --quick               # does it run at all?

Tasks: tagging (entities of scierc_ner) and extractive_qa (answers in policyqa), or the folder
--data.

Contestants, with the same rows, epochs, batch size, learning rate, linear schedule without warm-up,
weight decay, clipping and length limit, the last epoch's weights for both; rows of train whose text
is nearly in test too are left out for both:

tuned       Trainer: dynamic padding, length grouping, bf16 autocast, fused AdamW, sdpa, tokenised
            before, a lean collator, no logging, saving or progress bar
warmstart   `warmstart.tune(method="full")`

Each measurement has a process of its own; the rounds are interleaved and their order rotates.
Tokens per second: word pieces with special tokens, without padding, over the wall time of the whole
epochs. The score is that of the saved folder, loaded by transformers alone, in float32.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from _common import ROOT, contestants, hand_back, parser, rotated, run_worker
from _report import (
    Measures,
    announce,
    close,
    column,
    difference,
    mean_sd,
    measure,
    ratios,
    spread,
    table,
)

CONTESTANTS = ("tuned", "warmstart")
DATA = (ROOT / ".." / "shared" / "data").resolve()
TASKS = {
    "tagging": ("scierc_ner", "_tagging", "entity F1"),
    "extractive_qa": ("policyqa", "_extractive_qa", "F1"),
}
"""Task → its data, the module of its contestants, its score."""


def main() -> int:
    words = parser(__doc__)
    words.set_defaults(data=None)
    words.add_argument("--tasks", default=",".join(TASKS), help="which tasks")
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--repeats", type=int, default=3, help="rounds, each with its own seed")
    words.add_argument("--rows", type=int, default=0, help="training rows; 0: all")
    words.add_argument("--epochs", type=int, default=3)
    words.add_argument("--batch-size", type=int, default=16)
    words.add_argument("--learning-rate", type=float, default=3e-4)
    words.add_argument("--weight-decay", type=float, default=0.01)
    words.add_argument("--max-length", type=int, default=256)
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, CONTESTANTS)
    if asked.quick:
        asked.repeats, asked.rows, asked.epochs = 1, 96, 1
    tasks = contestants(words, asked.tasks, tuple(TASKS))
    facts = announce("Tasks", ", ".join(TASKS[task][0] for task in tasks))
    for task in tasks:
        facts[task] = compared(task, names, asked)
    close(facts, asked.json)
    return 0


def compared(task: str, names: list[str], asked: argparse.Namespace) -> Measures:
    """Interleaved rounds of one task, told as a table."""
    data, _, score = TASKS[task]
    folder: Path = asked.data or DATA / data
    if not (folder / "train.jsonl").is_file():
        print(f"{task}: there is no {folder.name}/train.jsonl; give --data FOLDER")
        return {}
    fields = "rows epochs batch_size learning_rate weight_decay max_length precision"
    keys: dict[str, Any] = {name: getattr(asked, name) for name in fields.split()}
    lines = run_worker(__file__, f"{task}:kept", {**keys, "data": str(folder)})
    keys["kept"] = lines["kept"]

    def told(result: dict[str, Any]) -> str:
        rate = f"{result['tokens_per_second']:.0f} tokens/s"
        return f"{task}, {rate}, {score} {result['score']:.4f}"

    found: Measures = {name: [] for name in names}
    for number in range(asked.repeats):
        for name in rotated(names, number):
            request = {**keys, "data": str(folder), "seed": number}
            measure(__file__, found, name, request, number, told, worker=f"{task}:{name}")
    show(task, score, found)
    return found


def show(task: str, score: str, found: Measures) -> None:
    """Rates, ratios round by round, and scores."""
    ours = found.get("warmstart", [])
    rows: list[list[str]] = []
    for name, results in found.items():
        if not results:
            continue
        values = column(results, "score")
        alone = name == "warmstart" or not ours
        gap = "–" if alone else difference(column(ours, "score"), values)
        rows.append(
            [
                name,
                str(results[0]["tokens"]),
                spread(column(results, "tokens_per_second"), 0),
                ratios(ours, results, "tokens_per_second"),
                mean_sd(values),
                gap,
                spread(column(results, "peak_mb"), 0),
            ]
        )
    print(f"\n### {task}: {max(map(len, found.values()), default=0)} rounds, median (range)")
    head = ["", "tokens trained", "tokens/s", "warmstart is", score]
    table([*head, "warmstart minus this (95 % interval)", "peak RSS MB"], rows)


def kept(task: str, data: str) -> list[int]:
    """The lines of train that warmstart trains on: not those whose text is in test or validation
    too, which would be worth points to the other contestant."""
    from warmstart.api import recipe_for
    from warmstart.pipelines.prepare import prepare

    prepared = prepare(recipe_for(data, None, {"task": task}))
    return [int(line) - 1 for line in prepared.splits.train["_line"].to_pylist()]


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    from importlib import import_module

    task, _, who = name.partition(":")
    if who == "kept":
        hand_back(request, kept=kept(task, request["data"]))
        return 0
    facts = getattr(import_module(TASKS[task][1]), who)(request)
    hand_back(request, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
