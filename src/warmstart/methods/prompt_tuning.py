"""Learned embeddings before the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmstart.methods._peft import PromptMethod
from warmstart.models.hf_calls import seeded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptTuning(PromptMethod):
    """Prompt tuning (Lester et al. 2021): a few embeddings before the text, begun as those of
    random words. An encoder's head then reads the first of them."""

    learning_rates = (1e-2, 1e-2)

    def config(self, model: PreTrainedModel) -> Any:
        from peft import PromptTuningConfig

        from warmstart.models.peft.prompts import prompt_settings

        return PromptTuningConfig(**prompt_settings(model, self.tokens))

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        import torch

        adapted: Any = super().attach(model, seed)
        words = adapted.word_embeddings.weight
        own = adapted.prompt_encoder["default"].embedding.weight
        with seeded(seed), torch.no_grad():
            own.copy_(words[torch.randint(0, len(words), (len(own),))])
        return adapted
