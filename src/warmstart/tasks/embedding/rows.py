"""Rows of the embedding task: what kind they are, their texts, their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.errors import DataError, shown
from warmstart.tasks.regression import numbers, with_numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.tasks.base import Drop, OnCut

NEEDED = {
    "pairs": ("other",),
    "scored": ("other", "score"),
    "triplets": ("other", "negative"),
    "labels": ("label",),
}
SEARCH = {"ndcg@10": "nDCG@10", "mrr": "MRR", "recall@1": "recall@1", "recall@10": "recall@10"}
MAIN: Mapping[str, str] = {
    "auto": "ndcg@10", "pairs": "ndcg@10", "triplets": "ndcg@10", "labels": "map",
    "scored": "spearman",
}  # fmt: skip
TITLES: Mapping[str, Mapping[str, str]] = {
    "auto": SEARCH,
    "pairs": SEARCH,
    "triplets": SEARCH,
    "labels": {"map": "mean average precision", "mrr": "MRR", "ndcg@10": "nDCG@10"},
    "scored": {"spearman": "Spearman", "pearson": "Pearson"},
}
EMPTY = -1
"""The number of a text that is not there."""


def kind_of(table: pa.Table) -> str:
    """What the rows of a table in the task's own form are; "alone" where there is only a text."""
    for kind, column in (("labels", "label"), ("scored", "score"), ("triplets", "negative")):
        if column in table.column_names:
            return kind
    return "pairs" if "other" in table.column_names else "alone"


def check_contrast(train: pa.Table) -> None:
    """Raise `DataError` where every text of train belongs to every other."""
    column = {"labels": "label", "pairs": "other"}.get(kind_of(train))
    if column is None or len(set(numbered(train[column].to_pylist()).tolist())) > 1:
        return
    only, file = shown(train[column][0].as_py(), 40), train["_file"][0].as_py()
    what = "has the label" if column == "label" else "is paired with"
    raise DataError(
        f"{file}: every text of train {what} '{only}', so there is nothing to contrast; add rows "
        f"with another, or name another column with --data.columns.{column} NAME"
    )


def own_form(table: pa.Table, examples: str, drop: Drop) -> pa.Table:
    """See `Embedding.rows`. Raises `DataError`."""
    kind = _kind(table, examples)
    if kind == "alone":
        return table.select([*(n for n in ("text", "_file", "_line", "_group")
                               if n in table.column_names)])  # fmt: skip
    if kind == "labels":
        table = table.drop_columns([n for n in ("other",) if n in table.column_names])
        table = table.append_column("other", table["label"])
    if kind == "scored":
        table = with_numbers(table, drop)
    kept = {"text", "other", *NEEDED[kind], "_file", "_line", "_group"}
    return table.select([name for name in table.column_names if name in kept])


def _kind(table: pa.Table, examples: str) -> str:
    """What the rows are by their columns, or as `task.examples` says. Raises `DataError`."""
    there = set(table.column_names)
    file = table["_file"][0].as_py() if len(table) else "the data"
    if examples != "auto":
        if not there & {"other", "score", "negative", "label"}:
            return "alone"
        if lost := [role for role in NEEDED[examples] if role not in there]:
            flags = " ".join(f"--data.columns.{role} NAME" for role in lost)
            raise DataError(
                f"{file} has no column for {' and '.join(lost)}, which task.examples {examples} "
                f"needs; name it with {flags}"
            )
        return examples
    if "other" not in there:
        return "labels" if "label" in there else "alone"
    if "label" in there and "score" not in there:
        raise DataError(
            f"{file} has pairs and a label, and a label does not say which pairs belong together; "
            "keep those that do and say --task.examples pairs, or name a number of how alike they "
            "are with --data.columns.score NAME"
        )
    return "scored" if "score" in there else "triplets" if "negative" in there else "pairs"


def stores(
    table: pa.Table, tokenizer: Any, longest: int, on_cut: OnCut | None, full_score: float | None
) -> TokenizedDataset:
    """See `Embedding.encode`."""
    kind = kind_of(table)
    names = ["text"] if kind in ("alone", "labels") else ["text", "other"]
    names += ["negative"] if kind == "triplets" else []
    behind: TokenizedDataset | None = None
    for name in reversed(names):
        texts = [text or "" for text in table[name].to_pylist()]
        store = tokenise(texts, tokenizer.backend_tokenizer, longest, on_cut)
        behind = replace(store, answers=behind)
    assert behind is not None
    return replace(behind, targets=_targets(table, kind, names, full_score))


def _targets(table: pa.Table, kind: str, names: list[str], full_score: float | None) -> np.ndarray:
    """The class [n] or the score [n] of each row, or the numbers of its texts [n, K]."""
    if kind == "scored":
        return (numbers(table) / (full_score or 1.0)).astype(np.float32)
    if kind == "labels":
        return numbered(table["label"].to_pylist())
    flat = [text or "" for name in names for text in table[name].to_pylist()]
    return numbered(flat).reshape(len(names), -1).T.copy()


def numbered(texts: list[str]) -> np.ndarray:
    """A number [n] for each text, equal where the texts are but for case and space around them;
    `EMPTY` for one that is not there."""
    known: dict[str, int] = {"": EMPTY}
    numbers = [known.setdefault((text or "").strip().casefold(), len(known)) for text in texts]
    return np.array(numbers, np.int64)
