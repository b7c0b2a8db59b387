"""Exact search finds what a full sort of all similarities finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.metrics import retrieval as module
from warmstart.metrics.retrieval import best, nearest


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(1, 40), q=st.integers(0, 9), k=st.integers(1, 50),
    coarse=st.booleans(),
)  # fmt: skip
def test_as_a_full_sort(seed: int, n: int, q: int, k: int, coarse: bool) -> None:
    """Ties too stand in the order of their numbers."""
    rng = np.random.default_rng(seed)
    vectors, queries = rng.normal(size=(n, 4)), rng.normal(size=(q, 4))
    if coarse:
        vectors, queries = np.round(vectors), np.round(queries)
    vectors, queries = vectors.astype(np.float32), queries.astype(np.float32)
    rows, values = nearest(vectors, queries, k)
    assert rows.shape == values.shape == (q, min(k, n))
    whole = queries @ vectors.T
    np.testing.assert_allclose(values, -np.sort(-whole, axis=1)[:, :k], atol=1e-5)
    if coarse:
        order = np.argsort(-whole, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(rows, order)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_blocks_change_nothing(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3)).astype(np.float32)
    queries = rng.normal(size=(11, 3)).astype(np.float32)
    whole = nearest(vectors, queries, k)
    monkeypatch.setattr(module, "BLOCK", 14)
    parts = nearest(vectors, queries, k)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_allclose(whole[1], parts[1], rtol=1e-6)


def test_what_was_ruled_out_comes_last() -> None:
    rows, values = best(np.array([[-np.inf, 0.5, 0.5, 0.9]], np.float32), 3)
    assert rows.tolist() == [[3, 1, 2]] and values[0, 0] == pytest.approx(0.9)
