"""Only the top layers and the head move; what the layers below give is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import layers_of
from warmstart.models.modules import train_top

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Partial(Method):
    """Fine-tune the top of the model: most of `full`'s score for the cost of a few layers."""

    learning_rates = (1e-4, 3e-5)
    layers: int = Field(default=2, ge=1, description="how many of the last layers move")
    cached: bool = Field(
        default=True,
        description="keep what the layers below give on disk, in bfloat16, so that later epochs "
        "cost only the layers that move",
    )

    @property
    def keeps_states(self) -> bool:
        return self.cached

    def check(self, model: PreTrainedModel) -> None:
        have = len(layers_of(model)) - _added(model)
        if self.layers > have:
            raise RecipeError(
                f"method.layers is {self.layers}, but '{model.config.model_type}' here has {have} "
                f"layers; take at most {have}, or method full"
            )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        self.check(model)
        train_top(model, self.layers + _added(model))
        return model

    def cut(self, model: PreTrainedModel) -> int:
        return len(layers_of(model)) - self.layers - _added(model)


def _added(model: PreTrainedModel) -> int:
    """How many of the last layers are none of the base's own: one that gives the mean over the
    tokens, which stands still (see `models.head_layers.append_mean_layer`)."""
    return sum(hasattr(block, "gives_mean") for block in layers_of(model))
