"""Every weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from warmstart.methods.base import Method
from warmstart.models.modules import ParamGroup, parameters_by_depth

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Fine-tune the whole model: the best score where there are a few hundred rows or more."""

    learning_rates = (1e-4, 3e-5)
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="each layer moves at this share of the learning rate of the one above it",
    )
    unfreeze_every: int = Field(
        default=0,
        ge=0,
        description="begin with the head alone and let one more layer move every so many epochs; "
        "0: all from the start",
    )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        model.requires_grad_(True)
        return model

    def param_groups(self, model: PreTrainedModel) -> list[ParamGroup]:
        """Discriminative rates and gradual unfreezing (Howard & Ruder 2018), from the top down."""
        if self.layer_decay == 1 and not self.unfreeze_every:
            return []
        return [
            ParamGroup(parameters, self.layer_decay**depth, self.unfreeze_every * depth)
            for depth, parameters in enumerate(parameters_by_depth(model))
        ]
