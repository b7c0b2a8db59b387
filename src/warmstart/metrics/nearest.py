"""Which vectors lie nearest to others: exact search by cosine, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BLOCK = 1 << 22
"""Similarities held at once, 16 MB of float32."""


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
    for start, found in similar(vectors, queries):
        rows = slice(start, start + len(found))
        numbers[rows], similarities[rows] = best(found, k)
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
