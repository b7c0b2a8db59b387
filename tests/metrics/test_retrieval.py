"""Scores of rankings equal scikit-learn's, and a ranking that is cut short misses the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from warmstart.metrics.bootstrap import intervals
from warmstart.metrics.retrieval import Retrieval


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_scores_equal_scikit_learn(seed: int, documents: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(documents), (queries, 1)), axis=1).astype(float)
    gains = rng.integers(0, 4, (queries, documents)) * (rng.random((queries, documents)) < 0.5)
    gains[:, 0] = np.maximum(gains[:, 0], 1)
    relevant = [{d: g for d, g in enumerate(row) if g} for row in gains.tolist()]
    cutoffs = (1, 3, documents)
    found = Retrieval(cutoffs)(np.argsort(-scores).tolist(), relevant)
    for k in cutoffs:
        assert found[f"ndcg@{k}"] == pytest.approx(sk.ndcg_score(gains, scores, k=k))
        top = np.argsort(-scores)[:, :k]
        hits = np.take_along_axis(gains > 0, top, 1).sum(1) / (gains > 0).sum(1)
        assert found[f"recall@{k}"] == pytest.approx(hits.mean())
    means = [sk.average_precision_score(g > 0, s) for g, s in zip(gains, scores, strict=True)]
    assert found["map"] == pytest.approx(np.mean(means))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_of_one_relevant_document_mrr_is_the_ranking_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, right = rng.random((5, 8)), rng.integers(0, 8, 5)
    found = Retrieval()(np.argsort(-scores).tolist(), [{d} for d in right.tolist()])
    expected = sk.label_ranking_average_precision_score(np.eye(8)[right], scores)
    assert found["mrr"] == pytest.approx(expected)
    assert found["map"] == pytest.approx(expected)


def test_a_ranking_cut_short_misses_the_rest() -> None:
    found = Retrieval((2, 10))([["b", "a"]], [{"a", "z"}])
    assert found["recall@10"] == found["recall@2"] == 0.5
    assert found["mrr"] == 0.5
    assert found["map"] == 0.25
    assert Retrieval((5,))([[]], [{"a"}]) == {"mrr": 0, "map": 0, "recall@5": 0, "ndcg@5": 0}


def test_a_name_twice_counts_once() -> None:
    found = Retrieval((2,))([["a", "a", "b"]], [["a", "b"]])
    assert found["recall@2"] == found["ndcg@2"] == found["map"] == 1.0


def test_queries_without_anything_relevant_are_left_out() -> None:
    measure = Retrieval((1,))
    rows = measure.rows([["a"], ["a"], ["b"]], [{"a"}, {}, {"b": 2.0, "c": 0.0}])
    assert set(measure.total(rows).values()) == {1.0}
    assert measure.bearing(rows)["mrr"] == 2
    assert intervals(measure, rows, draws=50)["mrr"].low == pytest.approx(0.025**0.5)
