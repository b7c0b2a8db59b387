"""Classes of unequal size: what each remedy does to the smallest one, on the untouched test split.

    python bench/balance.py                       # frozen features, 3 seeds
    python bench/balance.py --method full --seeds 1

none            cross-entropy on the rows as they are: the peer
class_weights   `objective.class_weights balanced`
over, under     `data.sampling over` and `under`: rows of train repeated or left out
focal           `objective.loss_function focal` (gamma 2)
focal+weights   both of them

For each: recall and precision of the smallest class, and macro-F1, the mean over the seeds. The
intervals (95 %) resample the test rows, the same rows for all seeds, so they hold what the test
set leaves open and average over what the seeds do. The last column is the difference in recall to
`none` on the same resampled rows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from _common import DATA, folder_with, hand_back, parser, run_worker, splits_of

REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "class_weights": {"objective.class_weights": "balanced"},
    "over": {"data.sampling": "over"},
    "under": {"data.sampling": "under"},
    "focal": {"objective.loss_function": "focal"},
    "focal+weights": {"objective.loss_function": "focal", "objective.class_weights": "balanced"},
}
SETS = ("tweet_emotion", "sms_spam")
DRAWS = 1000


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--method", default="frozen")
    words.add_argument("--sets", default=",".join(SETS))
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--remedies", default=",".join(REMEDIES), help="besides none")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    rows = 96 if asked.quick else None
    collected: dict[str, Any] = {}
    for name in asked.sets.split(","):
        splits, said = splits_of(DATA.parent / name)
        print(f"\n### {said}, method {asked.method}, {asked.seeds} seeds\n")
        with folder_with(splits, rows, rows) as data:
            found: dict[str, list[dict[str, Any]]] = {}
            for remedy in dict.fromkeys(["none", *asked.remedies.split(",")]):
                request = {"data": str(data), "method": asked.method}
                found[remedy] = [
                    run_worker(__file__, remedy, {**request, "seed": seed})
                    for seed in range(asked.seeds)
                ]
        collected[name] = found
        show(found)
    if asked.json:
        import json

        asked.json.write_text(json.dumps(collected), encoding="utf-8")
    return 0


def work(remedy: str, request: dict[str, Any]) -> int:
    """One run; hands back the true and the predicted class of every test row."""
    import pyarrow.parquet as pq

    import warmstart

    out = Path(request["folder"]) / "run"
    keys = {"evaluate.baselines": False, "seed": request["seed"], "out": str(out)}
    warmstart.tune(request["data"], method=request["method"], **keys, **REMEDIES[remedy])
    table = pq.read_table(out / "predictions.parquet")
    truth, said = (table[column].to_pylist() for column in ("label", "prediction"))
    hand_back(request, truth=truth, said=said)
    return 0


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """A line for each remedy."""
    import numpy as np

    truth = np.array(found["none"][0]["truth"])
    classes, sizes = np.unique(truth, return_counts=True)
    small = int(sizes.argmin())
    y = np.searchsorted(classes, truth)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=DRAWS)
    draws = np.vstack([np.ones(len(y)), draws])
    print(f"smallest class: {classes[small]}, {sizes[small]} of {len(y)} test rows\n")
    print("| remedy | recall | precision | macro-F1 | recall against none |")
    print("|---|---|---|---|---|")
    first = None
    for remedy, runs in found.items():
        figures = np.mean([figures_of(y, classes, run["said"], draws, small) for run in runs], 0)
        first = figures if first is None else first
        cells = [written(values) for values in figures]
        change = "" if remedy == "none" else written(figures[0] - first[0], sign=True)
        print(f"| {remedy} | {' | '.join(cells)} | {change} |", flush=True)


def figures_of(y: Any, classes: Any, said: list[str], draws: Any, small: int) -> Any:
    """Recall and precision of the small class, and macro-F1, for each draw: [3, draws]."""
    import numpy as np

    eye = np.eye(len(classes))
    answer = eye[np.searchsorted(classes, np.array(said))]
    right, actual, answered = draws @ (eye[y] * answer), draws @ eye[y], draws @ answer
    f1 = 2 * right / np.maximum(actual + answered, 1)
    recall, precision = right / np.maximum(actual, 1), right / np.maximum(answered, 1)
    return np.stack([recall[:, small], precision[:, small], f1.mean(1)])


def written(values: Any, sign: bool = False) -> str:
    """The first value, and the interval of the others."""
    import numpy as np

    low, high = np.quantile(values[1:], [0.025, 0.975])
    plus = "+" if sign else ""
    return f"{values[0]:{plus}.3f} ({low:{plus}.3f} to {high:{plus}.3f})"


if __name__ == "__main__":
    sys.exit(main())
