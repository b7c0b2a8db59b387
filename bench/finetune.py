"""Fine-tuning: warmstart against `transformers.Trainer`, textbook and tuned.

    python bench/finetune.py                    # speed, 800 rows, 3 rounds
    python bench/finetune.py --quality          # equal quality: all rows, 4 epochs, 3 seeds
    python bench/finetune.py --workers tuned,tuned-eager,tuned-workers,tuned-malloc,warmstart

The same rows, epochs, batch size, learning rate, linear schedule without warm-up, weight decay,
clipping and length limit for all, the last epoch's weights for all. Contestants:

textbook       padding="max_length", float32, the Trainer's defaults
tuned          dynamic padding, length grouping, bf16 autocast, fused AdamW, sdpa, tokenised before,
               a lean collator, no logging, saving or progress bar
tuned-eager    tuned, with eager attention;            tuned-workers  with a loader process
tuned-malloc   tuned, with glibc's malloc thresholds raised from outside, as warmstart does inside
tuned-compile  tuned, with torch.compile
warmstart      `warmstart.tune(method="full")`

Each measurement has a process of its own; the rounds are interleaved and their order rotates.
Rows per second: wall time of the whole epochs, nothing taken off as warm-up, without loading,
tokenising and validation. Process seconds: from the start of the process, imports included, to the
test predictions (warmstart: to the finished run folder with report and proof).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from _common import (
    MALLOC,
    contestants,
    folder_with,
    hand_back,
    parser,
    rotated,
    splits_of,
)
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

CONTESTANTS = ("textbook", "tuned", "warmstart")
VARIANTS = ("tuned-eager", "tuned-workers", "tuned-malloc", "tuned-compile")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--repeats", type=int, default=3, help="rounds of the speed part")
    words.add_argument("--speed-rows", type=int, default=800, help="training rows; 0: all")
    words.add_argument("--speed-epochs", type=int, default=1)
    words.add_argument("--rows", type=int, default=0, help="rows of the quality part; 0: all")
    words.add_argument("--quality", action="store_true", help="also the quality part")
    words.add_argument("--no-speed", action="store_true", help="leave the speed part out")
    words.add_argument("--all", action="store_true", help="every seed for the textbook too")
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--epochs", type=int, default=4, help="of the quality part")
    words.add_argument("--batch-size", type=int, default=16)
    words.add_argument("--learning-rate", type=float, default=1e-4)
    words.add_argument("--weight-decay", type=float, default=0.01)
    words.add_argument("--max-length", type=int, default=128)
    words.add_argument("--baselines", action="store_true", help="warmstart fits its baselines too")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, (*CONTESTANTS, *VARIANTS))
    if asked.quick:
        asked.repeats, asked.speed_rows, asked.rows, asked.epochs, asked.seeds = 1, 96, 96, 1, 1
    splits, data = splits_of(asked.data)
    facts = announce("Fine-tuning", data)
    others = 100 if asked.quick else None
    if not asked.no_speed:
        with folder_with(splits, asked.speed_rows or None, others) as folder:
            keys = {**settings(asked), "data": str(folder), "epochs": asked.speed_epochs}
            facts["speed"] = speed(names, keys, asked.repeats)
    if asked.quality:
        with folder_with(splits, asked.rows or None, others) as folder:
            keys = {**settings(asked), "data": str(folder), "epochs": asked.epochs}
            facts["quality"] = quality(names, keys, asked.seeds, everyone=asked.all)
    close(facts, asked.json)
    return 0


def settings(asked: argparse.Namespace) -> dict[str, Any]:
    """What is the same for all."""
    names = "batch_size learning_rate weight_decay max_length precision baselines"
    return {name: getattr(asked, name) for name in names.split()}


def speed(names: list[str], keys: dict[str, Any], repeats: int) -> Measures:
    """Interleaved rounds with one seed."""
    found: Measures = {name: [] for name in names}
    for number in range(repeats):
        for name in rotated(names, number):
            once(found, name, {**keys, "seed": 0}, number, "round")
    ours = found.get("warmstart", [])
    print(f"\n### Speed: {repeats} rounds, median (range)")
    show_speed(found, ours)
    return found


def show_speed(found: Measures, ours: list[dict[str, Any]]) -> None:
    """Rates, seconds, memory, and the ratios round by round."""
    rows: list[list[str]] = []
    for name, results in found.items():
        if results:
            row = [name, str(results[0]["rows"])]
            for key in ("rows_per_second", "process_seconds"):
                row += [spread(column(results, key)), ratios(ours, results, key)]
            rows.append([*row, spread(column(results, "peak_mb"), 0)])
    head = ["", "rows trained", "rows/s", "warmstart is", "process s", "warmstart is"]
    table([*head, "peak RSS MB"], rows)


def quality(names: list[str], keys: dict[str, Any], seeds: int, *, everyone: bool) -> Measures:
    """The whole job with several seeds; the textbook has one unless `everyone`."""
    found: Measures = {name: [] for name in names}
    for seed in range(seeds):
        for name in rotated(names, seed):
            if name != "textbook" or everyone or seed == 0:
                once(found, name, {**keys, "seed": seed}, seed, "seed")
    ours = found.get("warmstart", [])
    print("\n### Quality: mean ± sd over the seeds, test split, float32, plain transformers")
    rows: list[list[str]] = []
    for name, results in found.items():
        if results:
            f1 = column(results, "f1_macro")
            gap = difference(column(ours, "f1_macro"), f1) if ours and name != "warmstart" else "–"
            rows.append([name, mean_sd(f1), mean_sd(column(results, "accuracy")), gap])
    table(["", "macro-F1", "accuracy", "warmstart minus this (95 % interval)"], rows)
    print("The same runs, timed:")
    show_speed(found, ours)
    return found


def once(found: Measures, name: str, keys: dict[str, Any], number: int, what: str) -> None:
    """One contestant once."""
    env = MALLOC if name == "tuned-malloc" else None
    measure(__file__, found, name, keys, number, told, what=what, env=env)


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    line = f"{result['rows_per_second']:.1f} rows/s, {result['process_seconds']:.1f} s, "
    return line + f"macro-F1 {result['f1_macro']:.4f}"


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    if name == "warmstart":
        import _warmstart

        facts = _warmstart.train(request)
    else:
        import _trainer

        facts = _trainer.train(name, request)
    hand_back(request, **facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
