"""Rows of the embedding task: what kind they are, how well vectors of them search, and how their
cosines agree with scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import DataError
from warmstart.formatting import counted
from warmstart.metrics.base import Floats, Measure
from warmstart.metrics.correlation import Agreement
from warmstart.metrics.retrieval import Retrieval, best, nearest
from warmstart.tasks.base import Drop, Examples
from warmstart.tasks.regression import numbers, with_numbers
from warmstart.tasks.results import TaskResult, column, list_mistakes, prediction_table

if TYPE_CHECKING:
    import pyarrow as pa

Vectors = np.ndarray
DEPTH = 100
"""Places of a ranking that are looked at; what is not among them counts as missed."""
BASELINES = ("tfidf_vectors",)
FAR = 0.25
"""Share of the rows by which a scored pair may stand in another place before it is a mistake."""
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
NEGATIVES = ("negative", *(f"negative_{n}" for n in range(2, 17)))
"""Columns of texts that do not belong to a row's text, in the task's own form."""


def kind_of(table: pa.Table) -> str:
    """What the rows of a table in the task's own form are; "alone" where there is only a text."""
    for kind, name in (("labels", "label"), ("scored", "score"), ("triplets", "negative")):
        if name in table.column_names:
            return kind
    return "pairs" if "other" in table.column_names else "alone"


def texts_in(table: pa.Table) -> list[str]:
    """The columns of texts of pairs or triplets in the task's own form."""
    return [name for name in ("text", "other", *NEGATIVES) if name in table.column_names]


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
    kept |= {*NEGATIVES} if kind == "triplets" else set()
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


def numbered(texts: list[str]) -> np.ndarray:
    """A number [n] for each text, equal where the texts are but for case and space around them;
    `EMPTY` for one that is not there."""
    known: dict[str, int] = {"": EMPTY}
    numbers = [known.setdefault((text or "").strip().casefold(), len(known)) for text in texts]
    return np.array(numbers, np.int64)


def quick_scores(outputs: Vectors, examples: Examples) -> dict[str, float]:
    """The figures of one pass over a split."""
    if not len(examples):
        return dict.fromkeys(("ndcg@10", "map", "spearman"), 0.0)
    split = Relevance.of(examples)
    return split.measure().total(split.score(outputs))


@dataclass(frozen=True)
class Relevance:
    """The texts of a split that are searched, and what is right for each row.

    Of pairs and triplets all other texts of the split are searched, each once; of labelled texts
    all texts but the row's own.
    """

    kind: str
    table: pa.Table
    offered: np.ndarray
    """Of pairs: rows of [K - 1, n] flattened, the first one of each text that is searched."""
    names: np.ndarray
    """Of pairs: the number of each searched text; of labelled texts: each row's class."""
    right: Sequence[Any]
    """For each row the names (pairs), or rows (labels), that are right, or its score."""

    @classmethod
    def of(cls, examples: Examples) -> Relevance:
        table = examples.table
        kind, nothing = kind_of(table), np.empty(0, np.int64)
        if kind == "scored":
            return cls(kind, table, nothing, nothing, numbers(table).tolist())
        if kind == "labels":
            classes = numbered(table["label"].to_pylist())
            by_class = {int(c): np.flatnonzero(classes == c) for c in np.unique(classes)}
            mates = [by_class[int(c)][by_class[int(c)] != i] for i, c in enumerate(classes)]
            return cls(kind, table, nothing, classes, [rows.tolist() for rows in mates])
        columns = texts_in(table)
        flat = numbered([text or "" for name in columns for text in table[name].to_pylist()])
        texts = flat.reshape(len(columns), -1)
        names, first = np.unique(texts[1:].reshape(-1), return_index=True)
        there = names != EMPTY
        right: dict[int, set[int]] = {}
        for query, positive in zip(texts[0].tolist(), texts[1].tolist(), strict=True):
            right.setdefault(query, set()).add(positive)
        return cls(kind, table, first[there], names[there], [right[q] for q in texts[0].tolist()])

    def measure(self) -> Measure:
        """The measure of this kind of rows."""
        return Agreement() if self.kind == "scored" else Retrieval((1, 5, 10))

    def score(self, outputs: Vectors) -> Floats:
        """Statistics [n, S] of vectors [n, K, H]."""
        if self.kind == "scored":
            return self.measure().rows(pair_cosines(outputs), self.right)
        return self.measure().rows(self.names_of(self.ranking(outputs)[0]), self.right)

    def names_of(self, places: np.ndarray) -> list[list[int]]:
        """Places among the searched texts as names."""
        return (places if self.kind == "labels" else self.names[places]).tolist()

    def ranking(self, outputs: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """The places of the nearest searched texts for each row, and their cosines, [n, k]."""
        vectors = unit(outputs)
        if self.kind != "labels":
            flat = vectors[:, 1:].transpose(1, 0, 2).reshape(-1, vectors.shape[-1])
            return nearest(flat[self.offered], vectors[:, 0], DEPTH)
        own = np.ascontiguousarray(vectors[:, 0])
        k = min(max(DEPTH, int(np.bincount(self.names).max())), max(len(own) - 1, 1))
        places, cosines = np.empty((len(own), k), np.int64), np.empty((len(own), k), np.float32)
        for start in range(0, len(own), 1024):
            block = own[start : start + 1024] @ own.T
            at = np.arange(len(block))
            block[at, start + at] = -np.inf  # a text does not find itself
            rows = slice(start, start + len(block))
            places[rows], cosines[rows] = best(block, k)
        return places, cosines

    def text(self, place: int) -> str:
        """A searched text."""
        if self.kind == "labels":
            return f"{self.table['text'][place].as_py()} ({self.table['label'][place].as_py()})"
        column, row = divmod(int(self.offered[place]), len(self.table))
        return self.table[texts_in(self.table)[1 + column]][row].as_py()


def evaluate(outputs: Vectors, test: Examples) -> TaskResult:
    """See `Task.evaluate`."""
    split = Relevance.of(test)
    return _agreement(split, outputs) if split.kind == "scored" else _search(split, outputs)


def _search(split: Relevance, outputs: Vectors) -> TaskResult:
    measure, table = split.measure(), split.table
    places, cosines = split.ranking(outputs)
    names = split.names_of(places)
    pairs = zip(names, map(set, split.right), strict=True)
    ranks = [next((place for place, name in enumerate(ranking, 1) if name in right), None)
             for ranking, right in pairs]  # fmt: skip
    firsts = [split.text(int(row[0])) for row in places]
    texts, others = table["text"].to_pylist(), table["other"].to_pylist()
    similarity = cosines[:, 0].astype(float).tolist()
    columns = {
        "text": texts,
        "other": others,
        "prediction": firsts,
        "similarity": similarity,
        "rank": column(ranks, "int64"),
        "correct": [rank == 1 for rank in ranks],
        "confidence": similarity,
    }
    made = prediction_table(table, columns)
    low = [i for i, rank in enumerate(ranks) if rank is None or rank > 1]
    low.sort(key=lambda i: (-(ranks[i] or len(table) + DEPTH), -cosines[i, 0]))
    what = "a text of its label" if split.kind == "labels" else "the right text"
    missing = f"was not among the first {places.shape[1]}"

    def describe(row: int) -> dict[str, Any]:
        rank = f"came at place {ranks[row]}"
        return {
            "text": texts[row],
            "label": others[row],
            "prediction": firsts[row],
            "confidence": similarity[row],
            "note": f"{what} {rank if ranks[row] else missing}",
        }

    searched = len(split.offered) if split.kind != "labels" else max(len(table) - 1, 0)
    return TaskResult(
        measure=measure,
        statistics=measure.rows(names, split.right),
        score=split.score,
        table=made,
        mistakes=list_mistakes(made, low, describe),
        baselines=BASELINES,
        groups=numbered(texts),
        facts={"searched": searched},
        notes=[f"Each query searched {counted(searched, 'text')}; with more of them every figure "
               "falls."],
    )  # fmt: skip


def _agreement(split: Relevance, outputs: Vectors) -> TaskResult:
    cosines, scores = pair_cosines(outputs), np.array(split.right)
    off = _places(cosines) - _places(scores)
    texts, others = split.table["text"].to_pylist(), split.table["other"].to_pylist()
    columns = {
        "text": texts,
        "other": others,
        "score": scores,
        "prediction": cosines.astype(float),
        "confidence": np.ones(len(cosines)),
        "correct": np.abs(off) <= FAR,
    }
    made = prediction_table(split.table, columns)
    order = np.argsort(-np.abs(off), kind="stable")

    def describe(row: int) -> dict[str, Any]:
        return {
            "text": f"{texts[row]} / {others[row]}",
            "label": f"score {scores[row]:g}",
            "prediction": f"cosine {cosines[row]:.3f}",
            "note": f"{abs(off[row]):.0%} of the rows too {'near' if off[row] > 0 else 'far'}",
        }

    return TaskResult(
        measure=split.measure(),
        statistics=split.score(outputs),
        score=split.score,
        table=made,
        mistakes=list_mistakes(made, order[np.abs(off[order]) > FAR], describe),
        baselines=BASELINES,
    )


def pair_cosines(outputs: Vectors) -> np.ndarray:
    """The cosines [n] of the first two vectors of each row [n, K, H]."""
    vectors = unit(outputs)
    return np.einsum("nh,nh->n", vectors[:, 0], vectors[:, 1])


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def _places(values: np.ndarray) -> np.ndarray:
    """Each value's place among all, as a share; equal ones share their mean place."""
    from scipy.stats import rankdata

    return rankdata(values) / max(len(values), 1)
