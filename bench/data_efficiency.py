"""Data efficiency: what pretraining is worth in labels.

    python bench/data_efficiency.py
    python bench/data_efficiency.py --sets trec --seeds 1

pretrained  MiniLM (the embedded base), fine-tuned with N, 3 N and 10 N labelled rows
random      the same architecture and tokenizer from random weights, the peer, with N, 10 N, 100 N

Both by `method full`, the same validation and test rows, the best epoch on the first
`--validation` validation rows kept. At least `--steps` steps and 4 epochs; from random weights
thrice the steps, 12 epochs and 3e-4 instead of 1e-4, because there is more to learn. N has 8 rows
of each class. The factor says how many labels from random weights are worth one on the
pretrained model: read off the line through the random scores on the logarithm of the rows, at the
score of the pretrained model with N. Its interval draws the seeds with replacement; "over" where
even 100 N do not reach it.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import DATA, Rows, folder_with, hand_back, parser, run_worker, splits_of

SETS = ("trec", "tweet_emotion")
TIMES = {"pretrained": (1, 3, 10), "random": (1, 10, 100)}
RATES = {"pretrained": None, "random": 3e-4}
LONGER = {"pretrained": 1, "random": 3}
PER_CLASS = 8


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--sets", default=",".join(SETS))
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=300)
    words.add_argument("--validation", type=int, default=200, help="rows that choose the epoch")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    collected: dict[str, Any] = {}
    for name in asked.sets.split(","):
        splits, said = splits_of(DATA.parent / name)
        classes = len({label for _, label in splits["train"]})
        base = PER_CLASS * classes
        print(f"\n### {said}: N = {base} rows ({PER_CLASS} of each class)\n", flush=True)
        scores: dict[str, dict[int, list[float]]] = {kind: defaultdict(list) for kind in TIMES}
        for seed in range(asked.seeds):
            for kind, times in TIMES.items():
                for factor in times:
                    rows = chosen(splits["train"], base * factor, classes, seed)
                    steps = asked.steps * LONGER[kind]
                    epochs = max(4 * LONGER[kind], -(-steps * 16 // len(rows)))
                    request = {"epochs": 1 if asked.quick else min(epochs, 60), "seed": seed}
                    request["rate"] = RATES[kind]
                    chosen_splits = {**splits, "train": rows}
                    chosen_splits["validation"] = splits["validation"][: asked.validation]
                    with folder_with(chosen_splits) as data:
                        found = run_worker(__file__, kind, {**request, "data": str(data)})
                    scores[kind][len(rows)].append(found["f1_macro"])
                    print(
                        f"seed {seed}, {kind}, {len(rows)} rows, {request['epochs']} epochs: "
                        f"{found['f1_macro']:.3f} ({found['seconds']:.0f} s)", flush=True,
                    )  # fmt: skip
        show(scores, base)
        collected[name] = scores
    if asked.json:
        asked.json.write_text(json.dumps(collected), encoding="utf-8")
    return 0


def chosen(rows: Rows, count: int, classes: int, seed: int) -> Rows:
    """`count` rows by chance: every class alike as far as its rows go, then whatever is left."""
    order = random.Random(seed).sample(rows, len(rows))
    each, taken, left = count // classes, defaultdict(int), []
    found: Rows = []
    for row in order:
        if taken[row[1]] < each:
            taken[row[1]] += 1
            found.append(row)
        else:
            left.append(row)
    return [*found, *left[: max(0, count - len(found))]]


def work(kind: str, request: dict[str, Any]) -> int:
    """One run; hands back the macro-F1 on the test rows."""
    import time

    import warmstart

    folder = Path(request["folder"])
    begun = time.perf_counter()
    keys: dict[str, Any] = {
        "seed": request["seed"], "out": str(folder / "run"), "evaluate.baselines": False,
        "train.epochs": request["epochs"], "train.patience": 0, "train.keep": "best",
    }  # fmt: skip
    if request["rate"]:
        keys["train.learning_rate"] = request["rate"]
    if kind == "random":
        keys["base"] = str(untrained(folder / "base", request["seed"]))
    run = warmstart.tune(request["data"], method="full", **keys)
    score = run.metrics["f1_macro"]["value"]
    hand_back(request, f1_macro=score, seconds=time.perf_counter() - begun)
    return 0


def untrained(folder: Path, seed: int) -> Path:
    """The architecture and tokenizer of MiniLM with random weights."""
    import torch
    from transformers import AutoConfig, AutoModel

    from warmstart.models.base import resolve
    from warmstart.models.loading import load_tokenizer

    base = resolve("minilm")
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.from_pretrained(base.path)).save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder


def show(scores: dict[str, dict[int, list[float]]], base: int) -> None:
    """The curve, and the factor with its interval."""
    import numpy as np

    print("\n| labels | pretrained | random weights |\n|---:|---|---|")
    for rows in sorted({rows for found in scores.values() for rows in found}):
        cells = [written(scores[kind].get(rows, [])) for kind in TIMES]
        print(f"| {rows:,} | {cells[0]} | {cells[1]} |")
    rng = np.random.default_rng(0)
    seeds = len(next(iter(scores["random"].values())))
    drawn = [
        factor(scores, rng.integers(0, seeds, seeds), rng.integers(0, seeds, seeds), base)
        for _ in range(2000)
    ]
    whole = factor(scores, range(seeds), range(seeds), base)
    low, high = np.quantile(drawn, [0.025, 0.975])
    bounds = f"{told(float(low), base, scores)} to {told(float(high), base, scores)}"
    print(f"\nfactor: {told(whole, base, scores)} (95 % interval over seeds {bounds})", flush=True)


def factor(
    scores: dict[str, dict[int, list[float]]], a: Sequence[int], b: Sequence[int], base: int
) -> float:
    """How many times N labels random weights need for the pretrained model's score with N."""
    import numpy as np

    wanted = np.mean([scores["pretrained"][base][i] for i in a])
    rows = sorted(scores["random"])
    means = np.maximum.accumulate([np.mean([scores["random"][n][i] for i in b]) for n in rows])
    if wanted > means[-1]:
        return float("inf")
    return float(np.exp(np.interp(wanted, means, np.log(rows))) / base)


def told(value: float, base: int, scores: dict[str, dict[int, list[float]]]) -> str:
    most = max(scores["random"]) / base
    return f"over {most:.0f}" if value == float("inf") else f"{value:.0f}"


def written(values: Sequence[float]) -> str:
    """Mean and spread over the seeds."""
    import statistics

    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    sys.exit(main())
