"""What a model that writes gives for the rows of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a model says of the target of each row, as in `Written`."""

    nats: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Texts that a model wrote, and what it says of the texts that people wrote.

    Args:
        ids: the token ids of each row's text, special tokens included; None where none was asked.
        confidence: [n] mean probability of the tokens of `ids`; 0 without one.
        nats: [n] summed cross-entropy of the row's target, each token after the true ones.
        sure: [n] summed probabilities of the target's tokens.
        hits: [n] tokens of the target than which none was likelier.
        tokens: [n] tokens of the target; 0 where there is none.
    """

    ids: list[list[int] | None]
    confidence: np.ndarray
    nats: np.ndarray
    sure: np.ndarray
    hits: np.ndarray
    tokens: np.ndarray

    @classmethod
    def nothing(cls, rows: int) -> Written:
        """For so many rows, to be filled in."""
        zeros = [np.zeros(rows) for _ in range(4)]
        return cls([None] * rows, *zeros, tokens=np.zeros(rows, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[list[int] | None]:
        return iter(self.ids)

    @property
    def loss(self) -> float:
        """Mean cross-entropy of a target token in nats."""
        return float(self.nats.sum() / max(self.tokens.sum(), 1))

    @property
    def probability(self) -> float:
        """Mean probability of a target token."""
        return float(self.sure.sum() / max(self.tokens.sum(), 1))

    @property
    def accuracy(self) -> float:
        """Share of the target tokens that were the likeliest."""
        return float(self.hits.sum() / max(self.tokens.sum(), 1))
