"""Methods side by side: what each costs and gives, on the same rows and seeds.

    python bench/methods.py
    python bench/methods.py --sets tweet_emotion --methods full,lora --seeds 1

The sets: tweet_emotion whole (4 classes), and banking77 with 50, 200 and 1,000 rows of train: 5, 20
and 100 rows of each of ten intents (the first ten by name that have so many), tested on all test
rows of these ten. The tables are those of `warmstart tune DATA --method a,b --seed 0,1,2`.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from _common import DATA, Rows, parser, splits_of, write_rows

METHODS = "full,frozen,partial,lora,adapter,ia3,bitfit,layernorm,prefix_tuning"
SETS = "banking-50,banking-200,banking-1000,tweet_emotion"
INTENTS = 10


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--sets", default=SETS)
    words.add_argument("--methods", default=METHODS)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--out", type=Path, help="keep the runs below this folder")
    asked = words.parse_args()
    for name in asked.sets.split(","):
        with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
            data = Path(folder) / "data"
            data.mkdir()
            for split, rows in chosen(name).items():
                write_rows(data / f"{split}.csv", rows[:60] if asked.quick else rows)
            out = (asked.out or Path(folder)) / name
            compare(name, data, out, asked)
    return 0


def chosen(name: str) -> dict[str, Rows]:
    """The splits of a set, made smaller where its name ends in a number."""
    if not name.startswith("banking-"):
        return splits_of(DATA.parent / name)[0]
    splits, _ = splits_of(DATA.parent / "banking77")
    each = int(name.partition("-")[2]) // INTENTS
    counts: dict[str, int] = {}
    for _, label in splits["train"]:
        counts[label] = counts.get(label, 0) + 1
    intents = sorted(label for label, count in counts.items() if count >= 100)[:INTENTS]
    found: dict[str, Rows] = {split: [] for split in splits}
    taken = dict.fromkeys(intents, 0)
    for split, rows in splits.items():
        for row in random.Random(0).sample(rows, len(rows)):
            if row[1] not in taken or (split == "train" and taken[row[1]] >= each):
                continue
            taken[row[1]] += split == "train"
            found[split].append(row)
    return found


def compare(name: str, data: Path, out: Path, asked: Any) -> None:
    """One comparison, as a table."""
    import warmstart

    keys: dict[str, Any] = {"evaluate.baselines": False}
    if asked.quick:
        keys["train.epochs"] = 1
    seeds = list(range(asked.seeds))
    found: Any = warmstart.tune(
        data, method=asked.methods.split(","), seed=seeds, out=str(out), **keys
    )
    summary = found.summary
    print(f"\n### {name}\n\n{table(summary)}\n\n{summary['verdict']}\n\n{summary['advice']}")
    for note in [*summary["notes"], *summary["measured"]]:
        print(f"- {note}")
    sys.stdout.flush()


def table(summary: dict[str, Any]) -> str:
    """The comparison as Markdown, best first."""
    head = "| method | score | interval | spread | against the best | trained | file | seconds |"
    lines = [f"{head} peak memory |", "|---|---|---|---|---|---:|---:|---:|---:|"]
    for one in summary["methods"]:
        lines.append("| " + " | ".join(cells(one)) + " |")
    return "\n".join(lines)


def cells(one: dict[str, Any]) -> list[str]:
    """One method as text."""
    interval = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
    memory = one["peak_memory_mb"]
    return [
        one["method"],
        f"{one['value']:.3f}",
        interval,
        "" if one["spread"] is None else f"{one['spread']:.3f}",
        one["outcome"],
        f"{one['trainable']:,}",
        f"{one['file_bytes'] / 1e6:.1f} MB",
        f"{one['seconds']:.1f}",
        "" if memory is None else f"{memory:.0f} MiB",
    ]


if __name__ == "__main__":
    sys.exit(main())
