"""What a frozen base says about the labels: which do not go with their text, where more are needed;
and how unequal the classes are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from warmstart.evaluation.sentences import listed, share
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.evaluation.inspection.facts import Rows
    from warmstart.models.base import Base

Progress = Callable[[str, int, int], None]
FEWEST_ROWS, FEWEST_OF_CLASS = 40, 5
LISTED = 500
CURVE_ROWS = 5_000
EVEN, UNEVEN, STRONG = 1.5, 3.0, 10.0  # rows of the largest class over those of the smallest
FEW_OF_CLASS = 20


@dataclass
class Judged:
    """`noise_facts` and `curve` are JSON-able; `write` writes `suspicious.csv`."""

    noise_facts: dict[str, Any]
    curve: dict[str, Any]
    listing: pa.Table
    write: Callable[[Path], None] | None = field(default=None)


def judge(
    base: Base | None,
    rows: Rows,
    groups: np.ndarray,
    seed: int,
    max_rows: int,
    max_length: int,
    progress: Progress | None = None,
) -> Judged:
    """Suspicious labels and a learning curve on frozen features; skipped, with the reason, where
    there is no base, fewer than two classes of FEWEST_OF_CLASS rows, or too few rows.

    `groups`: one number a row, equal for copies, which then never judge each other.
    """
    labels = np.array(rows.labels, dtype=object)
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    usable = np.flatnonzero(((counts >= FEWEST_OF_CLASS) & (names != ""))[codes] & (groups >= 0))
    if base is None:
        return _skipped(rows, "not asked for" if rows.label else "there is no label column")
    if len(usable) < FEWEST_ROWS or len(np.unique(codes[usable])) < 2:
        return _skipped(
            rows,
            f"fewer than {FEWEST_ROWS} rows, or fewer than two classes of {FEWEST_OF_CLASS} rows",
        )
    if len(usable) > max_rows:
        rng = np.random.default_rng([seed, 0x5A3F])
        usable = np.sort(rng.choice(usable, max_rows, replace=False))
    return _judged(base, rows, usable, groups[usable], seed, max_length, progress)


def _judged(
    base: Base,
    rows: Rows,
    which: np.ndarray,
    groups: np.ndarray,
    seed: int,
    max_length: int,
    progress: Progress | None,
) -> Judged:
    from threadpoolctl import threadpool_limits

    from warmstart.evaluation.label_errors import find_label_noise, write_suspicious
    from warmstart.evaluation.learning_curve import learning_curve
    from warmstart.training.frozen_features import features

    table = rows.table.take(pa.array(which))
    words = [(value or "").strip() for value in table["label"].to_pylist()]
    names, targets = np.unique(words, return_inverse=True)
    found = features(base, table["text"], max_length, progress=progress)
    labels = [str(name) for name in names]
    _, first = np.unique(groups, return_index=True)
    if len(first) > CURVE_ROWS:
        rng = np.random.default_rng([seed, 0xC04E])
        first = np.sort(rng.choice(first, CURVE_ROWS, replace=False))
    with threadpool_limits(1):  # many small problems: threads would wait for each other
        if progress is not None:
            progress("labels", 0, 1)
        noise = find_label_noise(found, targets, seed, groups=groups)
        if progress is not None:
            progress("learning curve", 0, 1)
        curve = learning_curve(found[first], targets[first], seed, labels=labels)
    listing = rows.listing(
        which[noise.rows[:LISTED]],
        suggested=[labels[code] for code in noise.suggested[:LISTED]],
        confidence=[round(float(value), 4) for value in noise.confidence[:LISTED]],
    )
    facts = {"suspicious": len(noise.rows), "estimated": noise.estimated}
    facts |= {"accuracy": round(noise.accuracy, 4), "checked": len(which), "of": len(rows.table)}
    return Judged(
        facts,
        curve,
        listing,
        lambda path: write_suspicious(path, noise, table, labels),
    )


def _skipped(rows: Rows, why: str) -> Judged:
    empty = rows.listing([], suggested=[], confidence=[])
    return Judged({"skipped": why}, {"skipped": why}, empty)


def balance(classes: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How unequal the classes of train are, in words, and what follows from it."""
    if classes is None or classes["classes"] < 2:
        return None
    sizes = {n: own.get("train", 0) for n, own in classes["counts"].items() if own.get("train", 0)}
    if len(sizes) < 2:
        return None
    ordered = sorted(sizes, key=lambda name: -sizes[name])
    large, small = ordered[0], ordered[-1]
    ratio = sizes[large] / sizes[small]
    degree = "even" if ratio <= EVEN else "a little uneven" if ratio < UNEVEN else \
        "uneven" if ratio < STRONG else "very uneven"  # fmt: skip
    verdict = (
        f"The classes are {degree}: “{large}” has {counted(sizes[large])} of train, “{small}” "
        f"{sizes[small]:,} ({ratio:.1f} times fewer)."
    )
    rare = [name for name in ordered if sizes[name] < FEW_OF_CLASS]
    consequence = (
        f"Always saying “{large}” would be right in {share(classes['largest_share'])} of the rows, "
        "so judge by macro-F1, not by accuracy."
    )
    return {
        "ratio": round(ratio, 2),
        "rows": sizes[small],
        "verdict": verdict,
        "consequence": consequence,
        "remedy": "try --objective.class_weights balanced, or --data.sampling over "
        "(--data.sampling under only with plenty of rows), one of them at a time",
        "rare": rare,
        "rare_sentence": f"Fewer than {FEW_OF_CLASS} rows: {listed(rare)}." if rare else "",
    }
