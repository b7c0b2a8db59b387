"""The loss of vectors on a split that is not trained on, for the curve beside that of train."""

from __future__ import annotations

from typing import Any

import numpy as np

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
