"""Only the biases and the head move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmstart.errors import RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import body_of
from warmstart.models.modules import head_names

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class BitFit(Method):
    """Tune the bias terms (Ben Zaken et al. 2022). The saved folder is a whole plain model."""

    learning_rates = (1e-3, 1e-3)
    moves_matrices = False
    steps_wanted = 600
    epochs_between = (6, 24)

    def check(self, model: PreTrainedModel) -> None:
        if not _biases(model):
            raise RecipeError(
                f"method bitfit trains biases, and '{model.config.model_type}' here has none in "
                "its layers; take layernorm or ia3"
            )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        self.check(model)
        model.requires_grad_(False)
        for weights in _biases(model):
            weights.requires_grad_(True)
        for name in head_names(model):
            model.get_submodule(name).requires_grad_(True)
        return model


def _biases(model: PreTrainedModel) -> list[nn.Parameter]:
    """The bias terms of the body; XLNet's attention keeps some as bare parameters."""
    return [p for name, p in body_of(model).named_parameters() if name.endswith("bias")]
