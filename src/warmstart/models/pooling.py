"""Mean pooling as one more layer, so that a plain model folder can hold it.

A post-norm block whose queries and keys are zero attends to all tokens alike, so its context is
the mean of the values; with the identity as value and output matrix, scaled by `WEIGHT` against
the residual, the norm that follows gives LN(mean) up to 1 / WEIGHT. A feed-forward part of zeros
changes nothing more.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from warmstart.models.families import body_of, family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHT = 100.0


def can_append(model: PreTrainedModel) -> bool:
    """Whether the model is made of standard post-norm blocks."""
    return bool(family_of(model.config).post_norm_block)


@torch.no_grad()
def append_mean_layer(model: PreTrainedModel) -> None:
    """Add the layer at the end and count it in the config."""
    family = family_of(model.config)
    layers: Any = body_of(model).get_submodule(family.layers)
    layer = copy.deepcopy(layers[-1])
    for weights in layer.parameters():
        weights.zero_()
    part: dict[str, Any] = {
        name: layer.get_submodule(path) for name, path in family.post_norm_block.items()
    }
    nn.init.eye_(part["value"].weight)
    part["attention_out"].weight.copy_(WEIGHT * torch.eye(part["value"].weight.shape[0]))
    part["attention_norm"].weight.fill_(1.0)
    part["output_norm"].weight.fill_(1.0)
    layers.append(layer.requires_grad_(False))
    name = "n_layers" if hasattr(model.config, "n_layers") else "num_hidden_layers"
    setattr(model.config, name, len(layers))
