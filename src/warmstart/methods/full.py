"""Every weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmstart.methods.base import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Full(Method):
    """Fine-tune the whole model: the best score where there are a few hundred rows or more."""

    def default_learning_rate(self, hidden_size: int) -> float:
        """Small models take larger steps: 1e-4 up to a width of 512, else 3e-5."""
        return 1e-4 if hidden_size <= 512 else 3e-5

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        model.requires_grad_(True)
        return model
