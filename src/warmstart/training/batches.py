"""Where batches come from: token ids, or hidden states that were computed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import micro, ordered, pad, plan, width
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.training.memory import trim
from warmstart.training.state_file import StateFile

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.forward import Compute, FastCompute

INFERENCE_TOKENS = 4096
CACHED_TOKENS = 1024  # on a CPU: what passes through a layer stays in its cache
INFERENCE_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are computed together: either ids [B, L] with lengths [B], or states [B, H].

    `types` [B, L] are the token types of two texts in one row.
    """

    targets: Tensor
    tokens: int
    ids: Tensor | None = None
    lengths: Tensor | None = None
    states: Tensor | None = None
    types: Tensor | None = None


class Feed(Protocol):
    """One split, ready to be computed."""

    def __len__(self) -> int: ...
    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]: ...
    def batches(self, rows: np.ndarray) -> list[Batch]: ...
    def logits(self, batch: Batch, *, training: bool) -> Tensor: ...
    def predict(self) -> np.ndarray: ...


class TokenFeed:
    """Token ids in length-sorted batches.

    Args:
        rows: the rows of the store to train on, with repeats where a class is oversampled.
    """

    def __init__(
        self,
        store: TokenizedDataset,
        compute: Compute,
        pad_id: int,
        *,
        batch_size: int,
        batch_tokens: int | None = None,
        micro_batch_tokens: int = INFERENCE_TOKENS,
        rows: np.ndarray | None = None,
    ) -> None:
        self.store, self.compute, self.pad_id = store, compute, pad_id
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.rows = np.arange(len(store)) if rows is None else rows
        self.longest = int(store.lengths.max(initial=1))

    def __len__(self) -> int:
        return len(self.store)

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch."""
        lengths = self.store.lengths[self.rows]
        order = plan(lengths, self.batch_size, seed, epoch, batch_tokens=self.batch_tokens)
        return [self.rows[batch] for batch in order]

    def batches(self, rows: np.ndarray) -> list[Batch]:
        """The micro-batches of one step."""
        lengths = self.store.lengths
        return [self._batch(part) for part in micro(rows, lengths, self.micro_batch_tokens)]

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        """Logits [B, K], or [B, L, K] where the head reads every token."""
        assert batch.ids is not None and batch.lengths is not None
        return self.compute.logits(batch.ids, batch.lengths, training=training, types=batch.types)

    @torch.no_grad()
    def predict(self) -> np.ndarray:
        """Logits [n, K] of the whole split in the order of its rows; [tokens, K] of a head that
        reads every token, parallel to the ids of the store."""
        found = np.empty((0, 0), dtype=np.float32)
        trim()  # what training left free has other sizes than answers ask for
        for rows in ordered(self.store.lengths, self._at_once()):
            values = self.logits(self._batch(rows), training=False).cpu().numpy()
            if not found.size:
                size = len(self.store) if values.ndim == 2 else len(self.store.ids)
                found = np.empty((size, values.shape[-1]), dtype=np.float32)
            if values.ndim == 2:
                found[rows] = values
                continue
            for row, value in zip(rows, values, strict=True):
                begin, end = self.store.offsets[row], self.store.offsets[row + 1]
                found[begin:end] = value[: end - begin]
        return found

    @torch.no_grad()
    def states(self, path: Path) -> StateFile:
        """What the head reads, [n, H], computed once and kept in a file."""
        compute: Any = self.compute
        found = StateFile(path, len(self.store))
        for rows in ordered(self.store.lengths, self._at_once()):
            batch = self._batch(rows)
            found.write(rows, compute.first(batch.ids, batch.lengths).cpu().numpy())
        return found

    def _at_once(self) -> int:
        """Tokens of a batch that no gradient is asked of."""
        on_cpu = self.compute.device.type == "cpu"
        return min(CACHED_TOKENS, INFERENCE_TOKENS) if on_cpu else INFERENCE_TOKENS

    def _batch(self, rows: np.ndarray) -> Batch:
        columns = width(int(self.store.lengths[rows].max()), self.longest)
        store, device = self.store, self.compute.device
        ids, lengths = pad(store, rows, self.pad_id, columns)
        targets, types = store.targets, store.types
        wanted = (
            store.padded(targets, rows, columns, IGNORE_INDEX) if store.by_token else targets[rows]
        )

        def sent(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        return Batch(
            targets=sent(wanted),
            tokens=int(lengths.sum()),
            ids=sent(ids),
            lengths=sent(lengths),
            types=None if types is None else sent(store.padded(types, rows, columns, 0)),
        )


class StateFeed:
    """Hidden states that were computed once, for a head alone."""

    def __init__(
        self,
        states: StateFile,
        targets: np.ndarray,
        compute: FastCompute,
        *,
        batch_size: int,
        rows: np.ndarray | None = None,
    ) -> None:
        self.states, self.targets = states, torch.from_numpy(targets)
        self.compute, self.batch_size = compute, batch_size
        self.rows = np.arange(len(targets)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.targets)

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """Shuffled rows, cut into steps."""
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(self.rows)
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def batches(self, rows: np.ndarray) -> list[Batch]:
        """One batch; states are small."""
        states = torch.from_numpy(self.states.read(rows)).to(self.compute.device)
        targets = self.targets[torch.from_numpy(rows)].to(states.device)
        return [Batch(targets, len(rows), states=states)]

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        """Logits [B, K]."""
        assert batch.states is not None
        return self.compute.head(batch.states, training=training)

    @torch.no_grad()
    def predict(self) -> np.ndarray:
        """Logits [n, K] of the whole split in the order of its rows."""
        parts: list[np.ndarray] = []
        for start in range(0, len(self.states), INFERENCE_ROWS):
            rows = np.arange(start, min(start + INFERENCE_ROWS, len(self.states)))
            logits = self.logits(self.batches(rows)[0], training=False)
            parts.append(logits.float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
