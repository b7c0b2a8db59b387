"""Frozen features: warmstart against sentence-transformers + scikit-learn.

    python bench/frozen.py               # 3 rounds, 3 seeds
    python bench/frozen.py --workers st,st-bf16,st-large,warmstart --repeats 5

From the texts of the train and test split to the test predictions. Contestants:

st          `SentenceTransformer(folder).encode(texts)` as it comes (float32, batches of 32, sorted
            by length inside) and `LogisticRegression(max_iter=1000)`
st-bf16     the same in bfloat16 with batches of 128: its best on a CPU that has bf16
st-large    the same in float32 with batches of 128
st-malloc   st-bf16 with glibc's malloc thresholds raised from outside, as warmstart does inside
warmstart   `warmstart.tune(method="frozen")` without baselines; reads the validation split too, and
            ends with the finished run folder: model, report and proof

Job seconds: everything after the imports, loading the model and the data included. Process
seconds: from the start of the process. The rounds are interleaved, their order rotates, and each
round has its own seed. Logistic regression has no randomness, so its spread over seeds is nought.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from _common import (
    MALLOC,
    base_model,
    contestants,
    folder_with,
    hand_back,
    load,
    parser,
    peak_mb,
    process_seconds,
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

CONTESTANTS = ("st", "st-bf16", "warmstart")
VARIANTS = ("st-large", "st-malloc")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--repeats", type=int, default=3, help="rounds; each has its own seed")
    words.add_argument("--rows", type=int, default=0, help="training rows; 0: all")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, (*CONTESTANTS, *VARIANTS))
    if asked.quick:
        asked.repeats, asked.rows = 1, 96
    splits, data = splits_of(asked.data)
    facts = announce("Frozen features", data)
    found: Measures = {name: [] for name in names}
    with folder_with(splits, asked.rows or None, 100 if asked.quick else None) as folder:
        keys = {"data": str(folder), "precision": asked.precision}
        for number in range(asked.repeats):
            for name in rotated(names, number):
                env = MALLOC if name == "st-malloc" else None
                own = {**keys, "seed": number}
                measure(__file__, found, name, own, number, told, env=env)
    show(found)
    close({**facts, "rounds": found}, asked.json)
    return 0


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    line = f"job {result['job_seconds']:.1f} s, process {result['process_seconds']:.1f} s, "
    return line + f"macro-F1 {result['f1_macro']:.4f}"


def show(found: Measures) -> None:
    """The two times with their ratios, and the quality."""
    ours = found.get("warmstart", [])
    rows: list[list[str]] = []
    quality: list[list[str]] = []
    for name, results in found.items():
        if not results:
            continue
        row = [name]
        for key in ("job_seconds", "process_seconds"):
            row += [spread(column(results, key)), ratios(ours, results, key)]
        rows.append([*row, spread(column(results, "peak_mb"), 0)])
        f1 = column(results, "f1_macro")
        gap = difference(column(ours, "f1_macro"), f1) if ours and name != "warmstart" else "–"
        quality.append([name, mean_sd(f1), mean_sd(column(results, "accuracy")), gap])
    head = ["", "job s", "warmstart is", "process s", "warmstart is", "peak RSS MB"]
    table(head, rows)
    table(["", "macro-F1", "accuracy", "warmstart minus this (95 % interval)"], quality)


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    hand_back(request, **(_warmstart(request) if name == "warmstart" else _peer(name, request)))
    return 0


def _peer(name: str, request: dict[str, Any]) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    begun = time.perf_counter()
    splits, _ = load(Path(request["data"]))
    keys: dict[str, Any] = {"device": "cpu"}
    if name in ("st-bf16", "st-malloc") and request["precision"] == "bf16":
        keys["model_kwargs"] = {"dtype": torch.bfloat16}
    model = SentenceTransformer(str(base_model()), **keys)
    batch = 32 if name == "st" else 128
    features = {
        split: model.encode(
            splits[split].texts, batch_size=batch, convert_to_tensor=True, show_progress_bar=False
        ).float().numpy()
        for split in ("train", "test")
    }  # fmt: skip
    head = LogisticRegression(max_iter=1000).fit(features["train"], splits["train"].targets)
    guesses = head.predict(features["test"]).tolist()
    job, process, peak = time.perf_counter() - begun, process_seconds(), peak_mb()
    return _facts(guesses, splits["test"].targets, job, process, peak)


def _warmstart(request: dict[str, Any]) -> dict[str, Any]:
    import pyarrow.parquet  # noqa: F401

    import warmstart.evaluation.evaluate
    import warmstart.pipelines.tune
    import warmstart.pipelines.verify
    import warmstart.reporting.page
    import warmstart.training.trainer

    begun = time.perf_counter()
    data = Path(request["data"])
    run = warmstart.tune(
        data,
        method="frozen",
        seed=request["seed"],
        out=str(Path(request["folder"]) / "run"),
        **{
            "train.device": "cpu",
            "train.precision": request["precision"],
            "evaluate.baselines": False,
        },
    )
    job, process, peak = time.perf_counter() - begun, process_seconds(), peak_mb()
    splits, labels = load(data)
    answers = run.predict(splits["test"].texts)
    guesses = [labels.index(answer.value) for answer in answers]
    return _facts(guesses, splits["test"].targets, job, process, peak)


def _facts(
    guesses: list[int], truth: list[int], job: float, process: float, peak: float
) -> dict[str, Any]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "job_seconds": job,
        "process_seconds": process,
        "peak_mb": peak,
        "accuracy": float(accuracy_score(truth, guesses)),
        "f1_macro": float(f1_score(truth, guesses, average="macro")),
    }


if __name__ == "__main__":
    sys.exit(main())
