"""A text as one vector: the pooled hidden states of a body, for training and for answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from warmstart.models.compute import Compute, FastCompute, compute_for
from warmstart.models.heads import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["mean", "first", "last"]


def vectors_for(
    model: PreTrainedModel, pooling: Pooling, *, normalise: bool = True
) -> FastVectors | SlowVectors:
    """The fastest way to the vectors of a model without a head."""
    quick = compute_for(model).is_fast
    return (FastVectors if quick else SlowVectors)(model, pooling, normalise)


def pooled(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector [B, H] in float32 for each row of hidden states [B, L, H]; `mask` [B, L] is 1
    where a token is. A row without tokens is zeros."""
    real = mask.bool()
    if not hidden.shape[1]:
        return hidden.new_zeros(len(hidden), hidden.shape[-1], dtype=torch.float32)
    states = hidden.float().masked_fill(~real[:, :, None], 0.0)
    if pooling == "mean":
        return states.sum(1) / real.sum(1).clamp(min=1)[:, None]
    places = real.float()
    at = places.argmax(1) if pooling == "first" else _last(places)
    return states[torch.arange(len(states), device=states.device), at]


def _last(places: Tensor) -> Tensor:
    return places.shape[1] - 1 - places.flip(1).argmax(1)


class Staged(Compute):
    """Vectors of many texts, computed part by part under a single loss over all of them.

    The loss sees a leaf. Once its gradient is there, `collect` sends it back through one part
    after the other: exact, and a part's gradients may overwrite those of the part before it, as
    the homes of `shadow` do.
    """

    _parts: Sequence[Tensor] = ()
    _leaf: Tensor | None = None

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts of `logits` as one tensor [n, H] for the loss."""
        if not torch.is_grad_enabled():
            return torch.cat([*parts])
        self._parts = parts
        self._leaf = torch.cat([part.detach() for part in parts]).requires_grad_()
        return self._leaf

    def collect(self, *, accumulate: bool) -> None:
        if self._leaf is None:
            super().collect(accumulate=accumulate)
            return
        assert self._leaf.grad is not None
        pieces = self._leaf.grad.split([len(part) for part in self._parts])
        for number, (part, piece) in enumerate(zip(self._parts, pieces, strict=True)):
            part.backward(piece)
            super().collect(accumulate=accumulate or number > 0)
        self._parts, self._leaf = (), None


class SlowVectors(Staged):
    """Through transformers' own forward pass."""

    def __init__(self, model: PreTrainedModel, pooling: Pooling, normalise: bool) -> None:
        super().__init__(model)
        self.pooling: Pooling = pooling
        self.normalise = normalise
        self._answer = self._vector

    def _vector(self, ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        caller: Any = self.model
        if not ids.shape[1]:
            config: Any = unwrap(self.model).config
            return torch.zeros(len(ids), config.hidden_size, device=ids.device)
        hidden = caller(input_ids=ids, attention_mask=mask).last_hidden_state
        found = pooled(hidden, mask, self.pooling)
        return normalize(found, dim=-1) if self.normalise else found


class FastVectors(Staged, FastCompute):
    """Through the fast encoder."""

    def __init__(self, model: PreTrainedModel, pooling: Pooling, normalise: bool) -> None:
        super().__init__(model)
        self.pooling: Pooling = pooling
        self.normalise = normalise
        self.encoder.first_only = pooling == "first"

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """Vectors [B, H] in float32 of ids [B, L]."""
        self._train(training)
        hidden = self.encoder.forward(ids, lengths, training=training, types=types)
        columns = torch.arange(hidden.shape[1], device=ids.device)
        found = pooled(hidden, columns < lengths[:, None], self.pooling)
        return normalize(found, dim=-1) if self.normalise else found
