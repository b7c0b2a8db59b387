"""Tokens to be guessed from their neighbours, chosen as for BERT (Devlin et al. 2018, A.1)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

REPLACED, AS_IT_IS = 0.8, 0.1
"""The share of the chosen tokens that become the mask; and that stay. The rest become any token."""


def masked(
    ids: np.ndarray,
    lengths: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_id: int,
    vocabulary: int,
    special: Collection[int],
    share: float = 0.15,
) -> tuple[np.ndarray, np.ndarray]:
    """The ids [B, L] with some tokens hidden, and which were chosen, bool [B, L].

    In each row `share` of the tokens that are not special are chosen, rounded, and at least one. Of
    the chosen 80 % become the mask, 10 % any token of the vocabulary, and 10 % stay.
    """
    real = np.arange(ids.shape[1]) < lengths[:, None]
    open_ = real & ~np.isin(ids, np.array(sorted(special), ids.dtype))
    rank = np.where(open_, rng.random(ids.shape), 2.0).argsort(1).argsort(1)
    count = open_.sum(1)
    wanted = np.minimum(np.maximum(np.rint(share * count), 1), count)
    chosen = open_ & (rank < wanted[:, None])
    fate = rng.random(ids.shape)
    words = rng.integers(0, vocabulary, ids.shape, dtype=ids.dtype)
    found = np.where(chosen & (fate < REPLACED), mask_id, ids)
    return np.where(chosen & (fate >= REPLACED + AS_IT_IS), words, found), chosen
