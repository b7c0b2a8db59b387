"""Vectors on the test rows: how well they search, and how their cosines agree with scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.formatting import counted
from warmstart.metrics.base import Floats, Measure
from warmstart.metrics.correlation import Agreement
from warmstart.metrics.retrieval import Retrieval, best, nearest
from warmstart.tasks.base import Examples
from warmstart.tasks.embedding.rows import EMPTY, kind_of, numbered
from warmstart.tasks.regression import numbers
from warmstart.tasks.results import TaskResult, list_mistakes, prediction_table

Vectors = np.ndarray
DEPTH = 100
"""Places of a ranking that are looked at; what is not among them counts as missed."""
FAR = 0.25
"""Share of the rows by which a scored pair may stand in another place before it is a mistake."""


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
        columns = ["text", "other"] + ["negative"] * (kind == "triplets")
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
            return self.measure().rows(pair_cosines(unit(outputs)), self.right)
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
        return self.table[("other", "negative")[column]][row].as_py()


def evaluate(outputs: Vectors, test: Examples, baselines: Sequence[str]) -> TaskResult:
    """See `Task.evaluate`."""
    split = Relevance.of(test)
    return (_agreement if split.kind == "scored" else _search)(split, outputs, baselines)


def _search(split: Relevance, outputs: Vectors, baselines: Sequence[str]) -> TaskResult:
    measure, table = split.measure(), split.table
    places, cosines = split.ranking(outputs)
    names = split.names_of(places)
    ranks = [_rank(ranking, right) for ranking, right in zip(names, split.right, strict=True)]
    firsts = [split.text(int(row[0])) for row in places]
    texts, others = table["text"].to_pylist(), table["other"].to_pylist()
    similarity = cosines[:, 0].astype(float).tolist()
    made = prediction_table(
        table,
        {
            "text": texts,
            "other": others,
            "prediction": firsts,
            "similarity": similarity,
            "rank": pa.array(ranks, pa.int64()),
            "correct": [rank == 1 for rank in ranks],
            "confidence": similarity,
        },
    )
    low = [i for i, rank in enumerate(ranks) if rank is None or rank > 1]
    low.sort(key=lambda i: (-(ranks[i] or len(table) + DEPTH), -cosines[i, 0]))
    what = "a text of its label" if split.kind == "labels" else "the right text"

    def describe(row: int) -> dict[str, Any]:
        place = f"was not among the first {places.shape[1]}"
        return {
            "text": texts[row],
            "label": others[row],
            "prediction": firsts[row],
            "confidence": similarity[row],
            "note": f"{what} came at place {ranks[row]}" if ranks[row] else f"{what} {place}",
        }

    searched = len(split.offered) if split.kind != "labels" else max(len(table) - 1, 0)
    return TaskResult(
        measure=measure,
        statistics=measure.rows(names, split.right),
        score=split.score,
        table=made,
        mistakes=list_mistakes(made, low, describe),
        baselines=baselines,
        groups=numbered(texts),
        facts={"searched": searched},
        notes=[f"Each query searched {counted(searched, 'text')}; with more of them every figure "
               "falls."],
    )  # fmt: skip


def _agreement(split: Relevance, outputs: Vectors, baselines: Sequence[str]) -> TaskResult:
    cosines, scores = pair_cosines(unit(outputs)), np.array(split.right)
    off = _places(cosines) - _places(scores)
    texts, others = split.table["text"].to_pylist(), split.table["other"].to_pylist()
    made = prediction_table(
        split.table,
        {
            "text": texts,
            "other": others,
            "score": scores.tolist(),
            "prediction": cosines.astype(float).tolist(),
            "confidence": np.ones(len(cosines)).tolist(),
            "correct": (np.abs(off) <= FAR).tolist(),
        },
    )
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
        baselines=baselines,
    )


def pair_cosines(vectors: Vectors) -> np.ndarray:
    """Dot products [n] of the first two vectors of each row [n, K, H]."""
    return np.einsum("nh,nh->n", vectors[:, 0], vectors[:, 1])


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def _rank(ranking: Sequence[int], right: Any) -> int | None:
    """The first place of what is right, from 1."""
    relevant = set(right)
    return next((place for place, name in enumerate(ranking, 1) if name in relevant), None)


def _places(values: np.ndarray) -> np.ndarray:
    """Each value's place among all, as a share; equal ones share their mean place."""
    from scipy.stats import rankdata

    return rankdata(values) / max(len(values), 1)
