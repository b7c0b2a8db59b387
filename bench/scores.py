"""The test scores of the tasks, mean of the seeds with spread, beside the published references.

    python bench/scores.py                                   # every set, seeds 0 1 2
    python bench/scores.py --sets trec,stsb-embedding --seeds 1

Each set is tuned by `warmstart.tune` on the embedded base with the settings of `SETS`, which were
chosen on validation rows; what is not named there is a default. The last column is the best
baseline of the report on the same rows (seed 0), which the run of seed 0 trains beside the model.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import DATA, parser

OUT_OF_SCOPE = ("oos_recall", "in_scope_accuracy")
FOLDERS = {"stsb-embedding": "stsb", "stsb-regression": "stsb"}


@dataclass(frozen=True)
class Set:
    """What is tuned for a line of the table, and what was published about it."""

    task: str
    figures: tuple[str, ...]
    published: str
    keys: dict[str, Any] = field(default_factory=dict)


SETS = {
    "trec": Set("classification", ("accuracy", "f1_macro"), "accuracy: BERT-base about 0.97"),
    "banking77": Set(
        "classification",
        ("accuracy", "f1_macro"),
        "accuracy: BERT-base 0.937",
        {"train.epochs": 8, "train.learning_rate": 2e-4, "objective.label_smoothing": 0.1},
    ),
    "clinc150": Set(
        "classification",
        ("accuracy", "in_scope_accuracy", "oos_recall"),
        "BERT-base: in scope 0.969, out-of-scope recall 0.403",
        {"train.epochs": 5, "train.learning_rate": 2e-4, "objective.label_smoothing": 0.1},
    ),
    "goemotions": Set(
        "multilabel",
        ("f1_macro", "f1_micro"),
        "macro-F1: BERT-base 0.46 to 0.503, 7 times the rows",
    ),
    "stsb-embedding": Set(
        "embedding",
        ("spearman",),
        "BERT-base bi-encoder 0.847",
        {"train.epochs": 3, "train.batch_size": 32},
    ),
    "stsb-regression": Set(
        "regression",
        ("spearman", "pearson"),
        "BERT-base cross-encoder 0.858",
        {"train.epochs": 8},
    ),
    "rte": Set("pairs", ("accuracy",), "BERT-base 0.664, twice the rows", {"train.epochs": 10}),
    "wnut17": Set("tagging", ("f1_micro",), "entity F1: BERTweet 0.565, best of 2017 0.419"),
    "scierc_ner": Set(
        "tagging", ("f1_micro",), "entity F1: BERT-base 0.652, SciBERT 0.676", {"train.epochs": 8}
    ),
    "wiki_qa": Set(
        "extractive_qa", ("f1", "exact_match"), "F1: mBERT 0.835, on SQuAD: 123 times the rows",
        {"train.epochs": 5, "train.learning_rate": 2e-4},
    ),
    "policyqa": Set("extractive_qa", ("f1", "exact_match"), ""),
}  # fmt: skip


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--sets", default=",".join(SETS))
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting")
    asked = words.parse_args()
    more = {key: json.loads(value) for key, value in (one.split("=", 1) for one in asked.set)}
    print("| set | task and settings | figure | mean ± spread (each seed) | published | baseline |")
    print("|---|---|---|---:|---|---|", flush=True)
    found: dict[str, Any] = {}
    seeds = range(1 if asked.quick else asked.seeds)
    for name in asked.sets.split(","):
        found[name] = [measured(name, seed, more, asked.quick) for seed in seeds]
        for line in lines(name, found[name], more):
            print(line, flush=True)
        if asked.json:
            asked.json.write_text(json.dumps(found), encoding="utf-8")
    return 0


def files_of(name: str) -> dict[str, Any]:
    """What to hand `tune`: a folder with three splits, or the files by key."""
    folder = DATA.parent / FOLDERS.get(name, name)
    if name != "wiki_qa":
        return {"data": folder}
    return {
        "data": None,
        "data.train": str(folder / "train.jsonl"),
        "data.validation": str(folder / "validation.jsonl"),
        "data.test": str(DATA.parent / "xquad" / "test_en.jsonl"),
    }


def measured(name: str, seed: int, more: dict[str, Any], quick: bool) -> dict[str, Any]:
    """The figures of one run on the test rows."""
    import warmstart

    one = SETS[name]
    keys = {**one.keys, **more, **files_of(name), "seed": seed, "task": one.task}
    keys["evaluate.baselines"] = seed == 0
    if quick:
        keys["train.epochs"] = 1
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        data = keys.pop("data")
        run = warmstart.tune(data, out=str(Path(folder) / "run"), **keys)
        metrics = run.metrics
        best = max(metrics["baselines"], key=lambda b: b[metrics["main"]]["value"], default=None)
        return {
            "seed": seed,
            **{key: metrics[key]["value"] for key in one.figures if key not in OUT_OF_SCOPE},
            **(out_of_scope(run.path) if OUT_OF_SCOPE[0] in one.figures else {}),
            "baseline": best and [best["title"], best[metrics["main"]]["value"]],
        }


def out_of_scope(run: Path) -> dict[str, float]:
    """clinc150: the accuracy on the 150 intents, and how many other texts are seen as such."""
    import pyarrow.parquet as parquet

    tested = parquet.read_table(run / "predictions.parquet").to_pylist()
    inside = [row for row in tested if row["label"] != "oos"]
    outside = [row for row in tested if row["label"] == "oos"]
    return {
        "in_scope_accuracy": sum(r["label"] == r["prediction"] for r in inside) / len(inside),
        "oos_recall": sum(r["prediction"] == "oos" for r in outside) / len(outside),
    }


def lines(name: str, runs: list[dict[str, Any]], more: dict[str, Any]) -> list[str]:
    """The lines of the table for one set."""
    one, found = SETS[name], []
    settings = ", ".join(f"{key} {value}" for key, value in {**one.keys, **more}.items())
    for number, figure in enumerate(one.figures):
        values = [run[figure] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = " ".join(f"{value:.3f}" for value in values)
        what = [name, f"`{one.task}`, {settings or 'defaults'}"] if not number else ["", ""]
        rest = [one.published, baseline(runs[0])] if not number else ["", ""]
        cells = [*what, figure, f"{statistics.mean(values):.3f} ± {spread:.3f} ({each})", *rest]
        found.append(f"| {' | '.join(cells)} |")
    return found


def baseline(run: dict[str, Any]) -> str:
    """The best baseline as text."""
    best = run["baseline"]
    return f"{best[0]} {best[1]:.3f}" if best else ""


if __name__ == "__main__":
    sys.exit(main())
