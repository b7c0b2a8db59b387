"""Few-shot classification: warmstart against setfit, the same base and the same labelled texts.

    python bench/few_shot.py                       # 8 texts of each of banking77's labels, 3 seeds
    python bench/few_shot.py --per-class 16 --workers setfit,warmstart

From the labelled texts to the predictions for the whole test split. Contestants:

setfit      `setfit.Trainer` with the paper's settings (Tunstall et al. 2022): 20 pairs of each
            sort for each text (`num_iterations=20`), one epoch, batches of 16, the default rates,
            logistic regression
frozen      the mean of the base's hidden states and `LogisticRegression(C=10)`: no training
warmstart   `warmstart.tune(task="few_shot")` as it comes, without validation rows and baselines;
            it ends with the finished run folder: model, report and proof

Job seconds: everything after the imports, loading the model and the data included. The rounds are
interleaved, their order rotates, and each round has its own seed, which draws the texts too.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

from _common import (
    DATA,
    Rows,
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

CONTESTANTS = ("setfit", "frozen", "warmstart")


def main() -> int:
    words = parser(__doc__)
    words.set_defaults(data=DATA.parent / "banking77")
    words.add_argument("--workers", default=",".join(CONTESTANTS), help="who takes part")
    words.add_argument("--repeats", type=int, default=3, help="rounds; each has its own seed")
    words.add_argument("--per-class", type=int, default=8, help="labelled texts of each class")
    words.add_argument("--iterations", type=int, default=20, help="setfit's num_iterations")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    names = contestants(words, asked.workers, CONTESTANTS)
    if asked.quick:
        asked.repeats, asked.per_class, asked.iterations = 1, 2, 1
    splits, data = splits_of(asked.data)
    facts = announce(f"Few-shot, {asked.per_class} texts of each class", data)
    found: Measures = {name: [] for name in names}
    for number in range(asked.repeats):
        few = {**splits, "train": drawn(splits["train"], asked.per_class, number)}
        with folder_with(few, None, 100 if asked.quick else None) as folder:
            (folder / "validation.csv").rename(folder.parent / "validation.csv")
            keys = {"data": str(folder), "seed": number, "iterations": asked.iterations}
            for name in rotated(names, number):
                measure(__file__, found, name, keys, number, told)
    show(found)
    close({**facts, "rounds": found}, asked.json)
    return 0


def drawn(rows: Rows, per_class: int, seed: int) -> Rows:
    """So many texts of each class, at random."""
    rng = random.Random(seed)
    by_class: dict[str, Rows] = {}
    for row in rows:
        by_class.setdefault(row[1], []).append(row)
    return [
        row
        for label in sorted(by_class)
        for row in rng.sample(by_class[label], min(per_class, len(by_class[label])))
    ]


def told(result: dict[str, Any]) -> str:
    """One measurement in words."""
    return f"job {result['job_seconds']:.1f} s, accuracy {result['accuracy']:.4f}"


def show(found: Measures) -> None:
    """The time with its ratio, and the quality."""
    ours = found.get("warmstart", [])
    rows: list[list[str]] = []
    for name, results in found.items():
        if not results:
            continue
        scores = column(results, "accuracy")
        gap = difference(column(ours, "accuracy"), scores) if ours and name != "warmstart" else "–"
        rows.append(
            [name, spread(column(results, "job_seconds")), ratios(ours, results, "job_seconds"),
             mean_sd(scores), gap]
        )  # fmt: skip
    table(["", "job s", "warmstart is", "accuracy", "warmstart minus this (95 % interval)"], rows)


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    workers = {"setfit": _setfit, "frozen": _frozen, "warmstart": _warmstart}
    hand_back(request, **workers[name](request))
    return 0


def _data(request: dict[str, Any]) -> tuple[Any, list[str]]:
    folder = Path(request["data"])
    if not (folder / "validation.csv").exists():
        (folder / "validation.csv").write_text("text,label\n", encoding="utf-8")
    try:
        return load(folder)
    finally:
        (folder / "validation.csv").unlink()


def _setfit(request: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    begun = time.perf_counter()
    splits, _ = _data(request)
    train, test = splits["train"], splits["test"]
    arguments = TrainingArguments(
        output_dir=request["folder"], batch_size=16, num_epochs=1, seed=request["seed"],
        num_iterations=request["iterations"], save_strategy="no", report_to="none",
    )  # fmt: skip
    model = SetFitModel.from_pretrained(str(base_model()), device="cpu")
    rows = Dataset.from_dict({"text": train.texts, "label": train.targets})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    guesses = [int(guess) for guess in model.predict(test.texts)]
    return _facts(guesses, test.targets, begun)


def _frozen(request: dict[str, Any]) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    from warmstart.models.base import resolve
    from warmstart.training.frozen_features import features

    begun = time.perf_counter()
    splits, _ = _data(request)
    base = resolve("minilm")
    means = {name: features(base, splits[name].texts) for name in ("train", "test")}
    unit = {name: x / (x**2).sum(1, keepdims=True) ** 0.5 for name, x in means.items()}
    model = LogisticRegression(C=10, max_iter=1000).fit(unit["train"], splits["train"].targets)
    return _facts(model.predict(unit["test"]).tolist(), splits["test"].targets, begun)


def _warmstart(request: dict[str, Any]) -> dict[str, Any]:
    import warmstart

    begun = time.perf_counter()
    run = warmstart.tune(
        request["data"],
        task="few_shot",
        seed=request["seed"],
        out=str(Path(request["folder"]) / "run"),
        **{
            "data.validation_fraction": 0,
            "data.similarity": 0,
            "data.max_dropped": 1,
            "evaluate.baselines": False,
            "train.device": "cpu",
        },
    )
    job = time.perf_counter() - begun
    splits, labels = _data(request)
    answers = run.predict(splits["test"].texts)
    guesses = [labels.index(answer.value) for answer in answers]
    return {**_facts(guesses, splits["test"].targets, begun), "job_seconds": job}


def _facts(guesses: list[int], truth: list[int], begun: float) -> dict[str, Any]:
    job, process, peak = time.perf_counter() - begun, process_seconds(), peak_mb()
    right = sum(guess == true for guess, true in zip(guesses, truth, strict=True))
    return {
        "job_seconds": job,
        "process_seconds": process,
        "peak_mb": peak,
        "accuracy": right / len(truth),
    }


if __name__ == "__main__":
    sys.exit(main())
