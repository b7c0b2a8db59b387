"""What the last layer of a classification head reads: to train the body by it, and to fit the layer
afterwards in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from warmstart.models.compute import FastCompute, compute_for
from warmstart.models.families import family_of, layers_of
from warmstart.models.heads import head_modules
from warmstart.models.pooling import append_mean_layer, can_append
from warmstart.models.vectors import Staged

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
