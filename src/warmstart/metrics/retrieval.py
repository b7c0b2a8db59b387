"""Scores of a search: recall@k, nDCG@k, mean reciprocal rank, mean average precision."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np

from warmstart.metrics.base import Floats, Measure, Scores, ratio

Relevant = Collection[Hashable] | Mapping[Hashable, float]


class Retrieval(Measure):
    """Figures of rankings, one per query, against what is relevant to it.

    Predictions: for each query the names of what was found, best first; a name that comes again
    counts once. References: the relevant names, or name → gain above 0 (only nDCG looks at gains;
    it takes them as they are, with a log2 discount, as trec_eval does). What was not found counts
    as missed, so a ranking that is cut short bounds `mrr` and `map` from below. Queries to which
    nothing is relevant are left out of the means. Statistics [n, 3 + 2 per cutoff]: 1, reciprocal
    rank, average precision, recall at each cutoff, nDCG at each; zeros for a query left out.
    """

    def __init__(self, cutoffs: Sequence[int] = (1, 5, 10)) -> None:
        self.cutoffs = tuple(cutoffs)

    def rows(
        self, predictions: Sequence[Sequence[Hashable]], references: Sequence[Relevant]
    ) -> Floats:
        found = np.zeros((len(references), 3 + 2 * len(self.cutoffs)))
        for row, ranking, relevant in zip(found, predictions, references, strict=True):
            gain = _gains(relevant)
            if gain:
                row[:] = self._of_query(ranking, gain)
        return found

    def score(self, sums: Floats) -> Scores:
        mean = ratio(sums[..., 1:], sums[..., :1])
        names = ["mrr", "map"]
        names += [f"recall@{k}" for k in self.cutoffs] + [f"ndcg@{k}" for k in self.cutoffs]
        return {name: mean[..., place] for place, name in enumerate(names)}

    def bearing(self, rows: Floats) -> dict[str, int]:
        asked = int(rows[:, 0].sum())
        return dict.fromkeys(self.score(rows.sum(0)), asked)

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


def _gains(relevant: Relevant) -> dict[Hashable, float]:
    if isinstance(relevant, Mapping):
        return {name: float(gain) for name, gain in relevant.items() if gain > 0}
    return dict.fromkeys(relevant, 1.0)
