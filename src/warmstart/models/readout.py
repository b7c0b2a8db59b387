"""The last layer of a head: where its answers begin, and in which unit they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from warmstart.models.families import family_of
from warmstart.models.heads import unwrap

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

KEPT = ".modules_to_save.default"
"""What PEFT puts into the name of a head that is trained whole."""


@torch.no_grad()
def rescale(model: PreTrainedModel, mean: float, scale: float) -> float:
    """Make the model answer mean + scale * what it answered, by its last layer alone.

    Returns what of the mean could not be put there: all of it where the layer has no bias (GPT-2,
    Llama), else 0.
    """
    weight, bias = last_layer(model)
    weight.mul_(scale)
    if bias is None:
        return mean
    bias.mul_(scale).add_(mean)
    return 0.0


@torch.no_grad()
def begin_at(model: PreTrainedModel, probabilities: Sequence[float]) -> None:
    """Let a fresh head of labels begin with these probabilities, one a label.

    A head that has been trained, or whose last layer has no bias, stays as it is.
    """
    _, bias = last_layer(model)
    if bias is not None and not bias.any():
        bias.copy_(torch.logit(torch.tensor(probabilities, dtype=torch.float64)))


def last_layer(model: PreTrainedModel) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weight and bias of the layer whose outputs are the model's, as it is trained."""
    inner = unwrap(model)
    output = family_of(inner.config).output
    found = {name.replace(KEPT, ""): weights for name, weights in inner.named_parameters()}
    return found[f"{output}.weight"], found.get(f"{output}.bias")
