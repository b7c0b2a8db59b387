"""Label noise: how much of what was planted is found, and how far down one must read.

    python bench/noise.py

sms_spam        5 % of the training labels flipped at random, three seeds. Precision at the number
                of flips (195): the share of flips among the 195 most suspicious rows
tickets         the sample data of the package: 15 planted label errors and 3 conflicting labels;
                the place of each in the list

The peer is the obvious way: out-of-fold logistic regression on the same features, rows in order
of the probability of the given label, with scikit-learn alone. Ours adds groups of copies, a vote
of the nearest texts and confident learning, which says where the list ends.
"""

from __future__ import annotations

import csv
import sys
import time
from typing import Any

from _common import DATA, SAMPLES, Rows, parser, splits_of

SHARE, SEEDS = 0.05, (0, 1, 2)
PLANTED = ("label_error", "conflicting_label")


def main() -> int:
    words = parser(__doc__)
    words.set_defaults(data=DATA.parent / "sms_spam")
    asked = words.parse_args()
    splits, said = splits_of(asked.data)
    print(f"### {said}, {SHARE:.0%} flipped\n")
    flips(splits["train"][: 200 if asked.quick else None])
    print(f"\n### {SAMPLES.name}, planted faults\n")
    tickets()
    return 0


def flips(rows: Rows) -> None:
    """Precision for each seed."""
    import numpy as np

    x, clean, groups, _ = prepared(rows)
    print("| seed | flips | precision at that number | peer | listed | flips among them | s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        flipped = rng.choice(len(clean), round(SHARE * len(clean)), replace=False)
        y = clean.copy()
        others = int(clean.max())
        y[flipped] = (y[flipped] + rng.integers(1, others + 1, len(flipped))) % (others + 1)
        noise, seconds = timed(x, y, groups)
        n = len(flipped)
        ours, theirs = (np.isin(r[:n], flipped).mean() for r in (noise.ranked, peer(x, y)))
        among = int(np.isin(noise.rows, flipped).sum())
        print(f"| {seed} | {n} | {ours:.3f} | {theirs:.3f} | {len(noise.rows)} | {among} "
              f"| {seconds:.1f} |")  # fmt: skip


def tickets() -> None:
    """Where each planted fault stands."""
    import numpy as np

    with SAMPLES.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    truth_file = SAMPLES.with_name("tickets_truth.csv")
    with truth_file.open(encoding="utf-8", newline="") as file:
        faults = [row for row in csv.DictReader(file) if row["kind"] in PLANTED]
    x, y, groups, names = prepared(rows)
    noise, seconds = timed(x, y, groups)
    order, other = np.argsort(noise.ranked) + 1, np.argsort(peer(x, y)) + 1
    planted = np.array([int(row["row"]) - 1 for row in faults])
    places, theirs = np.sort(order[planted]), np.sort(other[planted])
    listed = np.isin(planted, noise.rows)
    said = dict(zip(noise.rows.tolist(), noise.suggested.tolist(), strict=True))
    right = sum(
        names[said[int(r["row"]) - 1]] == r["true_label"]
        for r in faults
        if int(r["row"]) - 1 in said
    )
    n = len(faults)
    print(f"{n} faults; listed as suspicious: {len(noise.rows)} rows, {listed.sum()} faults among")
    print(f"them; right label suggested for {right}; estimated number of errors {noise.estimated};")
    print(f"out-of-fold accuracy {noise.accuracy:.3f}; {seconds:.1f} s.\n")
    print("| | among the first 18 | all within the first | places |")
    print("|---|---:|---:|---|")
    for name, found in (("warmstart", places), ("peer", theirs)):
        print(f"| {name} | {(found <= n).sum()} | {found.max()} | {found.tolist()} |")


def prepared(rows: Rows) -> tuple[Any, Any, Any, list[str]]:
    """Features, class numbers, groups of copies, and the names of the classes."""
    import numpy as np

    from warmstart.data.dedup.exact import normalised
    from warmstart.models.base import resolve
    from warmstart.training.frozen_features import features

    began = time.perf_counter()
    texts = [text for text, _ in rows]
    x = features(resolve("minilm"), texts)
    print(f"features of {len(rows):,} texts: {time.perf_counter() - began:.1f} s\n")
    names, y = np.unique([label for _, label in rows], return_inverse=True)
    _, groups = np.unique([normalised(text) for text in texts], return_inverse=True)
    return x, y, groups, names.tolist()


def timed(x: Any, y: Any, groups: Any) -> tuple[Any, float]:
    from warmstart.evaluation.label_quality import find_label_errors

    began = time.perf_counter()
    return find_label_errors(x, y, 0, groups=groups), time.perf_counter() - began


def peer(x: Any, y: Any) -> Any:
    """All rows, the least probable given label first, by scikit-learn alone."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(max_iter=1000)
    found = cross_val_predict(model, x, y, cv=folds, method="predict_proba")
    return np.argsort(found[np.arange(len(y)), y], kind="stable")


if __name__ == "__main__":
    sys.exit(main())
