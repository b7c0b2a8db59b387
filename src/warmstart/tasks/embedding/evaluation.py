"""Vectors judged: what is found with them, and how their cosines agree with people's scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.formatting import counted
from warmstart.metrics.base import Floats, Measure
from warmstart.metrics.correlation import Agreement
from warmstart.metrics.nearest import best, nearest
from warmstart.metrics.retrieval import Retrieval
from warmstart.tasks.base import Examples, Result, Rival
from warmstart.tasks.embedding.rows import EMPTY, kind_of, numbered

# The loss of vectors on a split that is not trained on, for the curve beside that of train.

SCALE, CHUNK = 20.0, 64


def mean_loss(vectors: np.ndarray, wanted: np.ndarray) -> float:
    """The mean loss of chunks of rows in their order, as the default objective has it."""
    import torch

    targets = torch.from_numpy(wanted)
    given = torch.from_numpy(np.ascontiguousarray(vectors))
    total = 0.0
    for start in range(0, len(given), CHUNK):
        part, right = given[start : start + CHUNK], targets[start : start + CHUNK]
        total += float(_chunk_loss(part, right)) * len(part)
    return total / max(len(given), 1)


def _chunk_loss(vectors: Any, targets: Any) -> Any:
    import torch

    if targets.is_floating_point():
        return torch.nn.functional.mse_loss((vectors[:, 0] * vectors[:, 1]).sum(-1), targets)
    if vectors.shape[1] == 1:
        return _class_loss(vectors[:, 0], targets)
    scores = SCALE * vectors[:, 0] @ vectors[:, 1].T
    same = (targets[:, 1][:, None] == targets[:, 1]) | (targets[:, 0][:, None] == targets[:, 0])
    same.fill_diagonal_(False)
    own = torch.arange(len(scores))
    return torch.nn.functional.cross_entropy(scores.masked_fill(same, float("-inf")), own)


def _class_loss(vectors: Any, classes: Any) -> Any:
    import torch

    scores = SCALE * vectors @ vectors.T
    itself = torch.eye(len(scores), dtype=torch.bool)
    log_p = scores.masked_fill(itself, float("-inf")).log_softmax(-1)
    same = (classes[:, None] == classes) & ~itself
    mates = same.sum(1)
    rows = -log_p.masked_fill(~same, 0.0).sum(1) / mates.clamp(min=1)
    return rows.sum() / (mates > 0).sum().clamp(min=1)


Vectors = np.ndarray
DEPTH = 100
"""Places of a ranking that are looked at; what is not among them counts as not found."""
NUMBERS = 100_000_000
"""Numbers that the TF-IDF vectors may have; of more texts fewer words are counted."""
FAR = 0.25
"""Share of the rows by which a scored pair may stand in another place before it is a mistake."""
WORST = 200
"""Mistakes that are kept."""


def quick_scores(outputs: Vectors, examples: Examples) -> dict[str, float]:
    """The figures of one pass over a split, and the loss in the order of its rows."""
    if not len(examples):
        return dict.fromkeys(("ndcg@10", "map", "spearman", "loss"), 0.0)
    asked = Asked.of(examples)
    measure = asked.measure()
    rows = measure.rows(*asked.answers(outputs))
    return {**measure.total(rows), "loss": mean_loss(unit(outputs), examples.store.targets)}


@dataclass(frozen=True)
class Asked:
    """What the rows of a split ask: the texts that are searched, and what is right for each row.

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
    def of(cls, examples: Examples) -> Asked:
        table = examples.table
        kind, nothing = kind_of(table), np.empty(0, np.int64)
        if kind == "scored":
            scores = [float(value) for value in table["score"].to_pylist()]
            return cls(kind, table, nothing, nothing, scores)
        if kind == "labels":
            classes = numbered(table["label"].to_pylist())
            by_class = {int(c): np.flatnonzero(classes == c) for c in np.unique(classes)}
            mates = [by_class[int(c)][by_class[int(c)] != i] for i, c in enumerate(classes)]
            return cls(kind, table, nothing, classes, [one.tolist() for one in mates])
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

    def answers(self, outputs: Vectors) -> tuple[Any, Any]:
        """What `measure().rows` takes, from vectors [n, K, H]."""
        if self.kind == "scored":
            return pair_cosines(unit(outputs)), self.right
        return self.names_of(self.ranking(outputs)[0]), self.right

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


def judged(
    outputs: Mapping[str, Any], examples: Mapping[str, Examples], *, baselines: bool
) -> Result:
    """See `Task.result`; `outputs` may have "untuned", the base's vectors of the test rows."""
    test = examples["test"]
    asked = Asked.of(test)
    measure = asked.measure()
    rivals: list[Rival] = []

    def add(name: str, title: str, vectors: Any, notes: Sequence[str] = ()) -> None:
        rivals.append(Rival(name, title, measure.rows(*asked.answers(vectors)), notes))

    if baselines and len(test):
        add("tfidf", "TF-IDF cosine", tfidf(examples["train"].table, test.table))
    if "untuned" in outputs:
        add("untuned", "the base, untuned", outputs["untuned"])
    found: Callable[..., Result] = _agreement if asked.kind == "scored" else _search
    return found(asked, measure, outputs["test"], rivals)


def _search(asked: Asked, measure: Measure, outputs: Vectors, rivals: Sequence[Rival]) -> Result:
    places, cosines = asked.ranking(outputs)
    names = asked.names_of(places)
    rows = measure.rows(names, asked.right)
    ranks = [_rank(found, right) for found, right in zip(names, asked.right, strict=True)]
    firsts = [asked.text(int(row[0])) for row in places]
    table = asked.table
    columns = {
        **_where(table),
        "other": table["other"].to_pylist(),
        "prediction": firsts,
        "similarity": cosines[:, 0].astype(float).tolist(),
        "rank": pa.array(ranks, pa.int64()),
        "correct": [rank == 1 for rank in ranks],
        "confidence": cosines[:, 0].astype(float).tolist(),
    }
    low = [i for i, rank in enumerate(ranks) if rank is None or rank > 1]
    low.sort(key=lambda i: (-(ranks[i] or len(table) + DEPTH), -cosines[i, 0]))
    what = "a text of its label" if asked.kind == "labels" else "the right text"
    mistakes = [
        {
            **{key: columns[key][i] for key in ("file", "line", "text")},
            "label": columns["other"][i],
            "prediction": firsts[i],
            "confidence": float(cosines[i, 0]),
            "note": f"{what} came at place {ranks[i]}" if ranks[i] else
                    f"{what} was not among the first {places.shape[1]}",
        }
        for i in low[:WORST]
    ]  # fmt: skip
    searched = len(asked.offered) if asked.kind != "labels" else max(len(table) - 1, 0)
    notes = [
        f"Each query searched {counted(searched, 'text')}; with more of them every figure falls."
    ]
    groups = numbered(columns["text"])
    return Result(measure, rows, rivals, pa.table(columns), mistakes, groups,
                  {"searched": searched}, notes)  # fmt: skip


def _agreement(asked: Asked, measure: Measure, outputs: Vectors, rivals: Sequence[Rival]) -> Result:
    found, scores = pair_cosines(unit(outputs)), np.array(asked.right)
    rows: Floats = measure.rows(*asked.answers(outputs))
    table, off = asked.table, _places(found) - _places(scores)
    columns = {
        **_where(table),
        "other": table["other"].to_pylist(),
        "score": scores.tolist(),
        "prediction": found.astype(float).tolist(),
        "confidence": np.ones(len(found)).tolist(),
        "correct": (np.abs(off) <= FAR).tolist(),
    }
    mistakes = [
        {
            **{key: columns[key][i] for key in ("file", "line")},
            "text": f"{columns['text'][i]} / {columns['other'][i]}",
            "label": f"score {scores[i]:g}",
            "prediction": f"cosine {found[i]:.3f}",
            "note": f"{abs(off[i]):.0%} of the rows too {'near' if off[i] > 0 else 'far'}",
        }
        for i in np.argsort(-np.abs(off), kind="stable")[:WORST].tolist()
        if abs(off[i]) > FAR
    ]
    return Result(measure, rows, rivals, pa.table(columns), mistakes)


def pair_cosines(vectors: Vectors) -> np.ndarray:
    """Dot products [n] of the first two vectors of each row [n, K, H]."""
    return np.einsum("nh,nh->n", vectors[:, 0], vectors[:, 1])


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def tfidf(train: pa.Table, test: pa.Table) -> Vectors:
    """TF-IDF vectors [n, K, H] of the test texts, reduced so that their dot products are the same.

    Weights are learned from the texts of train. H is at most the number of test texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    names = [n for n in ("text", "other", "negative") if n in test.column_names]
    names = names[:1] if "label" in test.column_names else names
    words = min(20_000, max(1_000, NUMBERS // (len(test) * len(names) or 1)))
    counted: Any = TfidfVectorizer(sublinear_tf=True, max_features=words)
    known = [text or "" for name in names for text in train[name].to_pylist()]
    try:
        counted.fit(known)
    except ValueError:  # no words at all
        return np.zeros((len(test), len(names), 1), np.float32)
    flat = [text or "" for name in names for text in test[name].to_pylist()]
    matrix = counted.transform(flat)
    used = np.unique(matrix.indices)
    if not len(used):
        return np.zeros((len(test), len(names), 1), np.float32)
    dense = matrix[:, used].astype(np.float32).toarray()
    return dense.reshape(len(names), len(test), -1).transpose(1, 0, 2)


def _rank(found: Sequence[int], right: Any) -> int | None:
    """The first place of what is right, from 1."""
    wanted = set(right)
    return next((place for place, name in enumerate(found, 1) if name in wanted), None)


def _places(values: np.ndarray) -> np.ndarray:
    """Each value's place among all, as a share; equal ones share their mean place."""
    from scipy.stats import rankdata

    return rankdata(values) / max(len(values), 1)


def _where(table: pa.Table) -> dict[str, Any]:
    return {
        "id": [str(number) for number in range(len(table))],
        "file": table["_file"].to_pylist(),
        "line": table["_line"].to_pylist(),
        "text": table["text"].to_pylist(),
    }
