"""Does an encoder that first reads abstracts learn science tasks better? Gain, no gain or harm.

    python bench/domain.py
    python bench/domain.py --bases minilm,runs/ours --sets scicite --seeds 3 --method full

Each base goes on with masked language modelling on the abstracts of scitldr (train), then it is
fine-tuned on each set, beside the same base fine-tuned alone: the same rows, seeds and settings.
The difference of macro-F1 (tagging: F1 of entities) is a mean over the seeds; its 95 % interval
draws test rows and seeds with replacement, always both runs of a pair. "gain" and "harm" are
intervals that lie on one side of 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from _common import DATA, parser

SETS = {"scicite": "classification", "citation_intent": "classification", "scierc_ner": "tagging"}
DRAWS = 1_000


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--bases", default="minilm")
    words.add_argument("--sets", default=",".join(SETS))
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--method", default="frozen")
    words.add_argument("--epochs", type=int, help="of the fine-tuning; unset: as tune has it")
    words.add_argument("--reading", type=float, default=3.0, help="epochs over the abstracts")
    words.add_argument("--out", type=Path, help="keep the runs here, and go on with them")
    asked = words.parse_args()
    figures = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="warmstart-bench-") as folder:
        place = asked.out or Path(folder)
        pairs = [(base, read(base, place, asked)) for base in asked.bases.split(",")]
        print("\n| base | set | alone | after the abstracts | difference (95 %) | verdict | s |")
        print("|---|---|---:|---:|---|---|---:|", flush=True)
        for base, adapted in pairs:
            for name in asked.sets.split(","):
                begun = time.perf_counter()
                row = compare(base, adapted, name, place, asked)
                figures.append({"base": base, "set": name, **row})
                print(f"| {short(base)} | {name} | {row['alone']:.3f} | {row['adapted']:.3f} | "
                      f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f}) | "
                      f"{row['verdict']} | {time.perf_counter() - begun:.0f} |",
                      flush=True)  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(figures), encoding="utf-8")
    return 0


def short(base: str) -> str:
    return base if "/" not in base else "/".join(Path(base).parts[-2:])


def done(out: Path) -> bool:
    """Whether a run that was kept need not be made again."""
    return (out / "metrics.json").is_file()


def read(base: str, place: Path, asked: argparse.Namespace) -> str:
    """The base after the abstracts; what the reading did is printed."""
    import warmstart

    out = place / f"{short(base).replace('/', '-')}-abstracts"
    run = warmstart.Run(out) if done(out) else warmstart.pretrain(
        DATA.parent / "scitldr" / "train.jsonl", base=base, objective="mlm", out=out, **{
            "data.columns.text": "source", "task.max_length": 256, "train.batch_tokens": 4_096,
            "train.learning_rate": 2e-4, "train.epochs": 1 if asked.quick else asked.reading,
            "evaluate.forgetting": False,
        },
    )  # fmt: skip
    losses = [f"{row['validation_loss']:.3f}" for row in run.facts["history"]]
    print(f"{short(base)}: {run.facts['rows']} on abstracts; held-out loss by epoch "
          f"{', '.join(losses)}; {run.facts['speed']['seconds']:.0f} s", flush=True)  # fmt: skip
    return str(run.path)


def compare(
    base: str, adapted: str, name: str, place: Path, asked: argparse.Namespace
) -> dict[str, Any]:
    """Both ways with every seed, and their difference."""
    import warmstart

    ways: dict[str, list[np.ndarray]] = {"alone": [], "adapted": []}
    for seed in range(1 if asked.quick else asked.seeds):
        for way, start in (("alone", base), ("adapted", adapted)):
            keys: dict[str, Any] = {"evaluate.baselines": False, "evaluate.forgetting": False,
                                    "evaluate.bootstrap": 100, "data.max_dropped": 0.2}  # fmt: skip
            if asked.epochs:
                keys["train.epochs"] = asked.epochs
            out = place / f"{name}-{way}-{short(base).replace('/', '-')}-{seed}"
            run = warmstart.Run(out) if done(out) else warmstart.tune(
                DATA.parent / name, task=SETS[name], base=start, method=asked.method, seed=seed,
                out=out, **keys,
            )  # fmt: skip
            table = pq.read_table(run.path / "predictions.parquet", columns=["label", "prediction"])
            ways[way].append(counts(SETS[name], table.to_pydict()))
            main = "f1_macro" if SETS[name] == "classification" else "f1_micro"
            figure = run.metrics[main]["value"]
            assert abs(score(ways[way][-1].sum(0)) - figure) < 1e-6, (figure, ways[way][-1].sum(0))
    rng, alone, other = np.random.default_rng(0), np.stack(ways["alone"]), np.stack(ways["adapted"])
    seeds, rows = alone.shape[:2]
    drawn = list[float]()
    for _ in range(DRAWS):
        own, weights = rng.integers(0, seeds, seeds), np.bincount(
            rng.integers(0, rows, rows), minlength=rows
        )  # fmt: skip
        gaps = [score(weights @ other[s]) - score(weights @ alone[s]) for s in own]
        drawn.append(float(np.mean(gaps)))
    low, high = np.quantile(drawn, [0.025, 0.975])
    means = [float(np.mean([score(one.sum(0)) for one in way])) for way in (alone, other)]
    verdict = "gain" if low > 0 else "harm" if high < 0 else "no gain"
    return {"alone": means[0], "adapted": means[1], "difference": means[1] - means[0],
            "low": float(low), "high": float(high), "verdict": verdict}  # fmt: skip


def counts(task: str, table: dict[str, list[str]]) -> np.ndarray:
    """Of each row [rows, kinds * 3]: right, answered and true, of each class or of all entities."""
    if task == "classification":
        names = sorted({*table["label"], *table["prediction"]})
        true, said = (
            np.array([[one == name for name in names] for one in table[key]], float)
            for key in ("label", "prediction")
        )
        return np.concatenate([true * said, said, true], 1)
    rows = list[list[int]]()
    for label, prediction in zip(table["label"], table["prediction"], strict=True):
        true, said = (
            {(one["type"], one["start"], one["end"]) for one in json.loads(text)}
            for text in (label, prediction)
        )
        rows.append([len(true & said), len(said), len(true)])
    return np.array(rows, float)


def score(sums: np.ndarray) -> float:
    """Macro-F1, or F1, of such counts."""
    right, said, true = np.split(sums, 3)
    return float(np.mean(2 * right / np.maximum(said + true, 1)))


if __name__ == "__main__":
    sys.exit(main())
