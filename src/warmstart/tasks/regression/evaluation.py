"""Numbers on the test rows, judged beside baselines, with those that are farthest off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.formatting import counted
from warmstart.metrics.correlation import Agreement
from warmstart.tasks.base import Examples, Result, Rival
from warmstart.tasks.regression.values import as_words, numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.metrics.base import Floats

LISTED, SHOWN = 200, 2_000  # mistakes; characters of one text
PENALTIES = (0.3, 1.0, 3.0, 10.0)  # of the ridge regression; the validation rows choose
MOST_ROWS = 20_000  # of train that the TF-IDF baselines learn from
PARTS = 5  # of equal size, of the range of the true numbers in the report
ROUNDING = 1e-6


def result(
    values: Floats,
    examples: Mapping[str, Examples],
    baselines: bool,
    seed: int,
    offset: float = 0.0,
) -> Result:
    """See `Task.result`; `values` [n] are the answers on the test rows, in the data's unit.

    `offset` is the part of them that transformers alone does not give.
    """
    test = examples["test"]
    measure, truth = Agreement(), numbers(test.table)
    notes: list[str] = []
    if offset:
        notes.append(
            "The last layer of this architecture has no bias, so transformers alone gives every "
            f"number less {offset:.6g}; warmstart adds it."
        )
    farthest = _farthest(test.table, values, truth)
    lead = f"The {counted(len(farthest), 'test row')} farthest off, the farthest first."
    return Result(
        measure=measure,
        rows=measure.rows(values, truth),
        rivals=_rivals(examples, measure, truth, seed) if baselines else [],
        table=_table(test.table, values, truth),
        mistakes=farthest,
        facts={"sections": [_by_part(values, truth)], "mistakes_lead": lead},
        notes=notes,
    )


def _rivals(
    examples: Mapping[str, Examples], measure: Agreement, truth: Floats, seed: int
) -> list[Rival]:
    train = examples["train"]
    known = numbers(train.table)
    constant = np.full(len(truth), known.mean())
    found = [Rival("mean", "always the mean", measure.rows(constant, truth))]
    chosen = np.arange(len(train))
    if len(chosen) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:MOST_ROWS])
    makers = {"tfidf": ("TF-IDF + ridge regression", _ridge)}
    if "sentence1" in train.table.column_names:
        makers["cosine"] = ("TF-IDF cosine of the two texts", _cosine)
    for name, (title, make) in makers.items():
        answers, notes = make(examples, chosen, known[chosen])
        if answers is not None:
            found.append(Rival(name, title, measure.rows(answers, truth), notes))
    return found


def _ridge(
    examples: Mapping[str, Examples], chosen: np.ndarray, known: Floats
) -> tuple[Floats | None, list[str]]:
    """A ridge regression on what the texts count, its penalty chosen on validation."""
    from sklearn.linear_model import Ridge

    from warmstart.metrics.tfidf import Features, blocks, picked

    features = Features(1)
    matrix = features.fit(picked(examples["train"].table["text"], chosen))
    if matrix is None:
        return None, []
    validation = examples.get("validation")
    best: tuple[float, Any] | None = None
    for penalty in PENALTIES if validation is not None and len(validation) else PENALTIES[1:2]:
        model: Any = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-3).fit(matrix, known)
        error = 0.0
        if validation is not None and len(validation):
            found = np.concatenate(
                [model.predict(features.transform(b)) for b in blocks(validation.table["text"])]
            )
            error = float(((found - numbers(validation.table)) ** 2).mean())
        if best is None or error < best[0]:
            best = (error, model)
    assert best is not None
    texts = blocks(examples["test"].table["text"])
    return np.concatenate([best[1].predict(features.transform(b)) for b in texts]), features.notes


def _cosine(
    examples: Mapping[str, Examples], chosen: np.ndarray, known: Floats
) -> tuple[Floats | None, list[str]]:
    """How alike the two texts' words are, on the line through the training rows that fits best."""
    from warmstart.metrics.tfidf import Features, blocks, picked

    features, sides = Features(1), ("sentence1", "sentence2")
    train, test = (examples[name].table for name in ("train", "test"))
    texts = [picked(train[side], chosen) for side in sides]
    if features.fit([*texts[0], *texts[1]]) is None:
        return None, []

    def alike(one: list[str], two: list[str]) -> Floats:
        a, b = (features.transform(part) for part in (one, two))
        lengths = np.sqrt(a.multiply(a).sum(1) * 1.0), np.sqrt(b.multiply(b).sum(1) * 1.0)
        product = np.asarray(a.multiply(b).sum(1), float).ravel()
        both = np.asarray(lengths[0], float).ravel() * np.asarray(lengths[1], float).ravel()
        return product / np.maximum(both, 1e-12)

    slope, start = np.polyfit(alike(*texts), known, 1)
    parts = zip(*(blocks(test[side]) for side in sides), strict=True)
    return start + slope * np.concatenate([alike(*part) for part in parts]), features.notes


def _table(table: pa.Table, values: Floats, truth: Floats) -> pa.Table:
    import pyarrow as pa

    texts = [name for name in ("sentence1", "sentence2") if name in table.column_names] or ["text"]
    columns: dict[str, Any] = {
        "id": pa.array([str(i) for i in range(len(truth))], pa.string()),
        "file": table["_file"].cast(pa.string()),
        "line": table["_line"].cast(pa.int64()),
        **{name: table[name] for name in texts},
        "label": pa.array(truth),
        "prediction": pa.array(values),
    }
    return pa.table(columns)


def _farthest(table: pa.Table, values: Floats, truth: Floats) -> list[dict[str, Any]]:
    import pyarrow as pa

    off = np.abs(values - truth)
    least = ROUNDING * max(1.0, float(np.abs(truth).max(initial=0.0)))
    order = [int(i) for i in np.argsort(-off, kind="stable") if off[i] > least][:LISTED]
    chosen = pa.array(order, pa.int64())
    rows = table.select(["_file", "_line", "text"]).take(chosen).to_pylist()
    words = [as_words([truth[i], values[i], off[i]]) for i in order]
    return [
        {
            "id": str(place),
            "file": row["_file"],
            "line": row["_line"],
            "text": (row["text"] or "")[:SHOWN],
            "label": true,
            "prediction": said,
            "note": f"off by {gap}",
        }
        for place, row, (true, said, gap) in zip(order, rows, words, strict=True)
    ]


def _by_part(values: Floats, truth: Floats) -> dict[str, Any]:
    """A table for the report: how far off the answers are, from low to high true numbers."""
    order = np.argsort(truth, kind="stable")
    rows: list[list[Any]] = []
    for part in np.array_split(order, min(PARTS, len(order))):
        low, high = as_words([truth[part].min(), truth[part].max()])
        off = values[part] - truth[part]
        rows.append([f"{low} to {high}", len(part), float(np.abs(off).mean()), float(off.mean())])
    return {
        "title": "Errors by size",
        "lead": "The test rows in parts of equal size, from low to high true numbers. A mean above "
        "0 says that the model answers too high there.",
        "columns": ["True number", "Rows", "Mean distance", "Mean difference"],
        "rows": rows,
    }
