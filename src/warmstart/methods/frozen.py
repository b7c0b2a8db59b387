"""The body stays as it is; only the head learns, on hidden states computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.methods.base import Method
from warmstart.models.modules import head_modules, head_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Frozen(Method):
    """Feature-based training (Devlin et al. 2018, section 5.3): seconds instead of minutes.

    Sentence encoders keep their meaning in the mean over all tokens, while the classification
    heads of transformers read the first token alone. With `pooling = "mean"` the head begins with
    one fixed layer of the model's own kind that writes the mean into the first token, so that the
    saved folder is still a plain model of its family, one layer deeper.
    """

    learning_rates = (3e-4, 3e-4)
    caches_features = True
    moves_matrices = False
    changes = "nothing"
    default_batch_size = 32
    steps_wanted = 1200
    epochs_between = (12, 100)

    pooling: Literal["mean", "first"] = Field(
        default="mean",
        description="what the head reads: the mean over the tokens, or the first token",
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="dropout in the head while it learns"
    )

    def check(self, model: PreTrainedModel) -> None:
        if not head_names(model):
            raise RecipeError(
                f"method frozen trains a head alone, and {type(model).__name__} has none of its "
                "own; take lora or partial"
            )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        from warmstart.models.head_layers import (
            append_mean_layer,
            can_append,
            reads_tokens,
            reset_head,
            set_head_dropout,
        )

        self.check(model)
        model.requires_grad_(False)
        if not hasattr(model, "own_head"):
            if self.pooling == "mean" and can_append(model) and not reads_tokens(model):
                append_mean_layer(model)
            reset_head(model, seed)
            set_head_dropout(model, self.dropout)
        for module in head_modules(model):
            module.requires_grad_(True)
        return model
