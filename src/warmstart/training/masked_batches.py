"""Texts with hidden tokens, in batches: what masked language modelling learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import micro, ordered, pad, plan, width
from warmstart.data.tokens.masking import masked
from warmstart.training.batches import INFERENCE_TOKENS, Batch

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.shared import MaskedCompute


@dataclass(frozen=True, slots=True)
class MaskedBatch(Batch):
    """`targets` [1, M] are the tokens behind the M places where `chosen` [B, L] is true."""

    chosen: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Hiding:
    """How tokens are hidden; see `data.masking`."""

    mask_id: int
    vocabulary: int
    special: tuple[int, ...]
    share: float = 0.15


class MaskedFeed:
    """Texts with hidden tokens: others in every step, and always the same when nothing is learned.

    Args:
        seed: gives the number that decides what is hidden in the step that now begins.
    """

    def __init__(
        self,
        store: TokenizedDataset,
        compute: MaskedCompute,
        pad_id: int,
        hiding: Hiding,
        seed: Callable[[], int],
        *,
        batch_size: int,
        batch_tokens: int | None = None,
        micro_batch_tokens: int = INFERENCE_TOKENS,
    ) -> None:
        self.store, self.compute, self.pad_id, self.hiding = store, compute, pad_id, hiding
        self.seed, self.batch_size, self.batch_tokens = seed, batch_size, batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.longest = int(store.lengths.max(initial=1))

    def __len__(self) -> int:
        return len(self.store)

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of a pass."""
        return plan(self.store.lengths, self.batch_size, seed, epoch, self.batch_tokens)

    def batches(self, rows: np.ndarray) -> list[Batch]:
        """The micro-batches of one step."""
        rng = np.random.default_rng([self.seed(), 15])
        parts = micro(rows, self.store.lengths, self.micro_batch_tokens)
        return [self._batch(part, rng) for part in parts]

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        """Logits [1, M, V] of the hidden tokens."""
        assert isinstance(batch, MaskedBatch)
        assert batch.ids is not None and batch.lengths is not None and batch.chosen is not None
        return self.compute.chosen_logits(
            batch.ids, batch.lengths, batch.chosen, training=training, types=batch.types
        )

    @torch.no_grad()
    def predict(self) -> np.ndarray:
        """[M, 2]: of each hidden token its loss in nats, and whether the likeliest one is right."""
        found: list[np.ndarray] = []
        for number, rows in enumerate(ordered(self.store.lengths, INFERENCE_TOKENS)):
            batch = self._batch(rows, np.random.default_rng([number, 16]))
            logits = self.logits(batch, training=False)[0]
            nll = torch.nn.functional.cross_entropy(logits, batch.targets[0], reduction="none")
            right = (logits.argmax(-1) == batch.targets[0]).float()
            found.append(torch.stack([nll, right], -1).cpu().numpy())
        return np.concatenate(found)

    def _batch(self, rows: np.ndarray, rng: np.random.Generator) -> MaskedBatch:
        columns = width(int(self.store.lengths[rows].max()), self.longest)
        ids, lengths = pad(self.store, rows, self.pad_id, columns)
        hiding, device = self.hiding, self.compute.device
        hidden, chosen = masked(
            ids, lengths, rng, mask_id=hiding.mask_id, vocabulary=hiding.vocabulary,
            special=hiding.special, share=hiding.share,
        )  # fmt: skip
        types = self.store.types
        return MaskedBatch(
            targets=torch.from_numpy(ids[chosen][None]).to(device),
            tokens=int(lengths.sum()),
            ids=torch.from_numpy(hidden).to(device),
            lengths=torch.from_numpy(lengths).to(device),
            types=None
            if types is None
            else torch.from_numpy(self.store.padded(types, rows, columns, 0)).to(device),
            chosen=torch.from_numpy(chosen).to(device),
        )
