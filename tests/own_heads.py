"""A head as a user would write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attending(nn.Module):
    """Weighs the tokens by one learned query, and adds a hidden layer."""

    def __init__(self, width: int, labels: int, hidden: int = 16) -> None:
        super().__init__()
        self.query, self.inner = nn.Linear(width, 1), nn.Linear(width, hidden)
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, labels)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        scores = self.query(hidden)[..., 0].masked_fill(mask == 0, -1e4)
        pooled = (torch.softmax(scores, -1)[..., None] * hidden).sum(1)
        return self.out(self.norm(torch.tanh(self.inner(pooled))))
