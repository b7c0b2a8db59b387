"""Rows of several texts (pairs, triplets) or of one class, as batches under one loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.training.batches import Batch, TokenFeed

if TYPE_CHECKING:
    from warmstart.models.embeddings import FastVectors, SlowVectors

CPU_TOKENS = 2048
"""Tokens of a part on a processor: short texts do not pay for the padding of long ones."""
TOGETHER = 4
"""Texts of one class that are put into a batch together."""


@dataclass(frozen=True, slots=True)
class TextsBatch(Batch):
    """The texts of one step in parts of about equal length; text k of row i of B is number
    k B + i, and `order` says where each computed vector belongs."""

    parts: Sequence[Batch] = ()
    order: Tensor | None = None


class PairFeed:
    """One or several texts a row; every step is one loss over all its vectors.

    Args:
        store: the first texts; `answers` the second ones, whose `answers` are the third ones. Of
            single texts `targets` are their classes.
        batch_size: rows in a step: with pairs each row has the others' texts as negatives.
        rows: the rows of the store to train on.
    """

    def __init__(
        self,
        store: TokenizedDataset,
        compute: FastVectors | SlowVectors,
        pad_id: int,
        *,
        batch_size: int,
        micro_batch_tokens: int = CPU_TOKENS,
        rows: np.ndarray | None = None,
    ) -> None:
        texts = texts_of(store)
        self.targets, self.size, self.texts = store.targets, len(store), len(texts)
        self.compute, self.batch_size = compute, batch_size
        most = min(micro_batch_tokens, CPU_TOKENS if compute.device.type == "cpu" else 1 << 20)
        self.feed = TokenFeed(
            joined(texts), compute, pad_id, batch_size=batch_size, micro_batch_tokens=most
        )
        self.rows = np.arange(self.size) if rows is None else rows

    def __len__(self) -> int:
        return self.size

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch: at random, so that negatives are; those of a class
        in small groups, so that positives are."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(self.rows)
        if self.texts == 1:
            order = grouped(order, self.targets, TOGETHER, rng)
        return np.array_split(order, -(-len(order) // self.batch_size))

    def batches(self, rows: np.ndarray) -> list[Batch]:
        """The whole step as one batch: every vector may be a negative of every other."""
        numbers = np.concatenate([rows + kind * self.size for kind in range(self.texts)])
        parts = self.feed.batches(numbers)
        order = np.empty(len(numbers), np.int64)  # the feed sorts by length
        lengths = self.feed.store.lengths[numbers]
        order[np.argsort(lengths, kind="stable")] = np.arange(len(numbers))
        device = self.compute.device
        return [
            TextsBatch(
                targets=torch.from_numpy(self.targets[rows]).to(device),
                tokens=sum(part.tokens for part in parts),
                parts=parts,
                order=torch.from_numpy(order).to(device),
            )
        ]

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        """Vectors [B, K, H] of the K texts of each row."""
        assert isinstance(batch, TextsBatch) and batch.order is not None
        found = [self.feed.logits(part, training=training) for part in batch.parts]
        flat = self.compute.joined(found)[batch.order]
        return flat.view(self.texts, -1, flat.shape[-1]).transpose(0, 1)

    def predict(self) -> np.ndarray:
        """Vectors [n, K, H] of the whole split in the order of its rows."""
        flat = self.feed.predict()
        if not self.size:
            return flat.reshape(0, self.texts, 0)
        return flat.reshape(self.texts, self.size, -1).transpose(1, 0, 2)


def texts_of(store: TokenizedDataset) -> list[TokenizedDataset]:
    """The store and those behind it."""
    found = [store]
    while (behind := found[-1].answers) is not None:
        found.append(behind)
    return found


def grouped(
    order: np.ndarray, classes: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """The same rows, with up to `size` of one class side by side; the groups at random."""
    by_class = order[np.argsort(classes[order], kind="stable")]
    _, starts = np.unique(classes[by_class], return_index=True)
    groups: list[np.ndarray] = []
    for rows in np.split(by_class, starts[1:]):
        groups += np.array_split(rows, max(1, round(len(rows) / size)))
    return np.concatenate([groups[i] for i in rng.permutation(len(groups))])
