"""Exact search by cosine, and its scores: recall@k, nDCG@k, MRR, mean average precision."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from warmstart.metrics.base import Floats, Measure, Scores, ratio

Vectors = NDArray[np.float32]
BLOCK = 1 << 22
"""Similarities held at once, 16 MB of float32."""
Relevant = Collection[Hashable] | Mapping[Hashable, float]


class Retrieval(Measure):
    """Figures of rankings, one per query, against what is relevant to it.

    Predictions: for each query the ranked names, best first; a name that comes again counts once.
    References: the relevant names, or name → gain above 0 (only nDCG looks at gains; it takes them
    as they are, with a log2 discount, as trec_eval does). What is not ranked counts as missed, so a
    ranking that is cut short bounds `mrr` and `map` from below. Queries to which nothing is
    relevant are left out of the means. Statistics [n, 3 + 2 per cutoff]: 1, reciprocal rank,
    average precision, recall at each cutoff, nDCG at each; zeros for a query left out.
    """

    def __init__(self, cutoffs: Sequence[int] = (1, 5, 10)) -> None:
        self.cutoffs = tuple(cutoffs)

    def rows(
        self, predictions: Sequence[Sequence[Hashable]], references: Sequence[Relevant]
    ) -> Floats:
        rows = np.zeros((len(references), 3 + 2 * len(self.cutoffs)))
        for row, ranking, relevant in zip(rows, predictions, references, strict=True):
            gains = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1.0)
            gain = {name: float(value) for name, value in gains.items() if value > 0}
            if gain:
                row[:] = self._of_query(ranking, gain)
        return rows

    def score(self, sums: Floats) -> Scores:
        mean = ratio(sums[..., 1:], sums[..., :1])
        names = ["mrr", "map"]
        names += [f"recall@{k}" for k in self.cutoffs] + [f"ndcg@{k}" for k in self.cutoffs]
        return {name: mean[..., place] for place, name in enumerate(names)}

    def bearing(self, rows: Floats) -> dict[str, int]:
        queries = int(rows[:, 0].sum())
        return dict.fromkeys(self.score(rows.sum(0)), queries)

    def _of_query(self, ranking: Sequence[Hashable], gain: dict[Hashable, float]) -> list[float]:
        gained = np.array([gain.get(name, 0.0) for name in dict.fromkeys(ranking)])
        ideal = np.sort(np.array(list(gain.values())))[::-1]
        hit = gained > 0
        places = np.flatnonzero(hit) + 1
        precision = np.arange(1, len(places) + 1) / places
        first = 1.0 / places[0] if len(places) else 0.0
        recall = [hit[:k].sum() / len(gain) for k in self.cutoffs]
        ndcg = [discounted(gained[:k]) / discounted(ideal[:k]) for k in self.cutoffs]
        return [1.0, first, precision.sum() / len(gain), *recall, *ndcg]


def discounted(gains: Floats) -> float:
    """Discounted cumulative gain (Järvelin & Kekäläinen 2002): gain / log2(place + 1), summed."""
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())


def nearest(vectors: Vectors, queries: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The numbers of the `k` nearest vectors of each query, best first, and their similarities.

    Similarities are dot products: cosines where both sides have length 1. Equal ones stand in the
    order of their numbers. Exact: every vector is compared.

    Args:
        vectors: [n, H].
        queries: [q, H].

    Returns:
        Two arrays [q, min(k, n)].
    """
    k = min(k, len(vectors))
    numbers = np.empty((len(queries), k), np.int64)
    similarities = np.empty((len(queries), k), np.float32)
    for start, block in similar(vectors, queries):
        rows = slice(start, start + len(block))
        numbers[rows], similarities[rows] = best(block, k)
    return numbers, similarities


def similar(vectors: Vectors, queries: Vectors) -> Iterator[tuple[int, Vectors]]:
    """The number of the first query of each block, and the block's similarities [b, n]."""
    step = max(1, BLOCK // max(1, len(vectors)))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        yield start, (vectors @ block[0])[None] if len(block) == 1 else block @ vectors.T


def best(similarities: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The columns of the `k` largest values of each row [b, n], largest first, and the values."""
    columns = similarities.shape[1]
    if k < columns:
        edge = np.partition(similarities, columns - k, axis=1)[:, columns - k, None]
        numbers = np.stack([_first(row, low, k) for row, low in zip(similarities, edge[:, 0],
                                                                    strict=True)])  # fmt: skip
    else:
        numbers = np.tile(np.arange(columns), (len(similarities), 1))
    values = np.take_along_axis(similarities, numbers, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(numbers, order, 1), np.take_along_axis(values, order, 1)


def _first(row: Vectors, low: np.float32, k: int) -> NDArray[np.int64]:
    """The columns of the `k` largest values in ascending order; of ties at `low` the first."""
    above = np.flatnonzero(row > low)
    return np.sort(np.concatenate([above, np.flatnonzero(row == low)[: k - len(above)]]))
