"""What is read of a model: its head's outputs, what the head's last layer reads, or pooled states;
and how a head is shaped so that the body can be trained by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from warmstart.models.architectures import family_of, layers_of
from warmstart.models.head_layers import append_mean_layer, can_append, head_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["mean", "first", "last"]


@dataclass(frozen=True, slots=True)
class Readout:
    """What stands for a row of tokens.

    Args:
        source: the head's own outputs; "features", what its last layer reads [B, H]; "below_head",
            the state that the head reads (of the fast encoder; elsewhere the features); "body", the
            last hidden states, pooled [B, H].
        pooling: of the body's states.
        normalise: whether pooled states are made to length 1.
    """

    source: Literal["head", "features", "below_head", "body"] = "head"
    pooling: Pooling = "mean"
    normalise: bool = False

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, H] of hidden states [B, L, H]; `mask` [B, L] is 1 where a token is."""
        vectors = pooled(hidden, mask, self.pooling)
        return normalize(vectors, dim=-1) if self.normalise else vectors


HEAD = Readout()
FEATURES = Readout("features")
BELOW_HEAD = Readout("below_head")


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
    last = places.shape[1] - 1 - places.flip(1).argmax(1)
    at = places.argmax(1) if pooling == "first" else last
    return states[torch.arange(len(states), device=states.device), at]


# A head through which the body is trained before its last layer is fitted.

STRAIGHT, RAISED = 0.5, 4.0
"""A tanh of half its input, or a ReLU or GELU raised so far, is nearly a straight line."""
CUT_BELOW = ("distilbert", "electra", "modernbert")
"""Families whose heads have a ReLU or a GELU in them."""


@torch.no_grad()
def straighten(model: PreTrainedModel) -> None:
    """Make the head's inner layers pass on what they read, and, where the family has it, let them
    read the mean over the tokens (see `append_mean_layer`)."""
    if can_append(model):
        append_mean_layer(model)
    family = family_of(model.config)
    output, raised = model.get_submodule(family.output), family.name in CUT_BELOW
    for module in head_modules(model):
        for layer in module.modules():
            if isinstance(layer, nn.Linear) and layer is not output:
                layer.weight.copy_(STRAIGHT * torch.eye(*layer.weight.shape))
                if layer.bias is not None:
                    layer.bias.fill_(RAISED if raised else 0.0)


def freeze_head(model: PreTrainedModel) -> None:
    """Let the head, and the layer that makes the mean, stand still."""
    still = [*head_modules(model)]
    if can_append(model):
        still.append(layers_of(model)[-1])
    for module in still:
        module.requires_grad_(False)
