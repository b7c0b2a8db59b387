"""What the last layer of a classification head reads: to train the body by it, and to fit the layer
afterwards in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from warmstart.models.architectures import family_of, layers_of
from warmstart.models.forward import Compute, FastCompute, compute_for
from warmstart.models.head_layers import append_mean_layer, can_append, unwrap
from warmstart.models.modules import head_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# A text as one vector: the pooled hidden states of a body, for training and for answering.

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
    the gradients of `mixed_precision` do.
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
        self.encoder.cls_only = pooling == "first"

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """Vectors [B, H] in float32 of ids [B, L]."""
        self._train(training)
        hidden = self.encoder.forward(ids, lengths, training=training, types=types)
        columns = torch.arange(hidden.shape[1], device=ids.device)
        found = pooled(hidden, columns < lengths[:, None], self.pooling)
        return normalize(found, dim=-1) if self.normalise else found


STRAIGHT, RAISED = 0.5, 4.0
"""A tanh of half its input, or a ReLU or GELU raised so far, is nearly a straight line."""
CUT_BELOW = ("distilbert", "electra", "modernbert")
"""Families whose heads have a ReLU or a GELU in them."""


def straighten(model: PreTrainedModel) -> None:
    """Make the head's inner layers pass on what they read, and, where the family has it, let them
    read the mean over the tokens (see `pooling`)."""
    if can_append(model):
        append_mean_layer(model)
    family = family_of(model.config)
    output = model.get_submodule(family.output)
    for module in head_modules(model):
        for layer in module.modules():
            if isinstance(layer, nn.Linear) and layer is not output:
                _pass_on(layer, RAISED if family.name in CUT_BELOW else 0.0)


@torch.no_grad()
def _pass_on(layer: nn.Linear, raised: float) -> None:
    layer.weight.copy_(STRAIGHT * torch.eye(*layer.weight.shape))
    if layer.bias is not None:
        layer.bias.fill_(raised)


def body_only(model: PreTrainedModel) -> None:
    """Let the head, and the layer that makes the mean, stand still; without dropout, which so few
    steps do not need."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    still = [*head_modules(model)]
    if can_append(model):
        still.append(layers_of(model)[-1])
    for module in still:
        module.requires_grad_(False)


def capturing(model: PreTrainedModel) -> FastCaptured | SlowCaptured:
    """The fastest compute that gives what the head reads."""
    return (FastCaptured if compute_for(model).is_fast else SlowCaptured)(model)


class _Captured(Staged):
    """Gives vectors [B, H] to train by, what the head's last layer reads, or logits."""

    gives: Literal["vectors", "features", "logits"] = "vectors"

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self._read: list[Tensor] = []
        family = family_of(model.config)
        self.output: Any = model.get_submodule(family.output)
        self.output.register_forward_pre_hook(lambda _, given: self._read.append(given[0]))

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """What `gives` says, in float32: [B, H], or logits [B, K]."""
        if self.gives == "vectors":
            return self.vectors(ids, lengths, training=training)
        self._read.clear()
        found = super().logits(ids, lengths, training=training, types=types)
        return found if self.gives == "logits" else self._last(lengths)

    def vectors(self, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        """What the body is trained by, [B, H]."""
        self._read.clear()
        super().logits(ids, lengths, training=training)
        return self._last(lengths)

    def _last(self, lengths: Tensor) -> Tensor:
        """What the head's last layer has just read; decoders give it for every token."""
        found = self._read.pop().float()
        if found.ndim == 3:
            found = found[torch.arange(len(found), device=found.device), lengths - 1]
        return found

    def set_output(self, weight: Tensor, bias: Tensor | None) -> None:
        """Give the head its last layer: weight [K, H] and bias [K]."""
        with torch.no_grad():
            self.output.weight.copy_(weight)
            if self.output.bias is not None and bias is not None:
                self.output.bias.copy_(bias)


class SlowCaptured(_Captured):
    """Through transformers' own forward pass."""


class FastCaptured(_Captured, FastCompute):
    """Through the fast encoder; trained by the state below the head, which is the mean itself."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.encoder.dropout = (0.0, 0.0)

    def vectors(self, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        return self.first(ids, lengths, training=training)
