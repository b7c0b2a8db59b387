"""Learned keys and values before the text, in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from warmstart.methods._peft import PromptMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PrefixTuning(PromptMethod):
    """Prefix tuning (Li & Liang 2021): every layer attends to some keys and values of its own."""

    learning_rates = (5e-3, 5e-3)
    projection: bool = Field(
        default=False, description="make the prefixes by a small network while they are learned"
    )

    def check(self, model: PreTrainedModel) -> None:
        from warmstart.models.peft.prompts import refuse_prefixes

        refuse_prefixes(self.part_name(), model)

    def config(self, model: PreTrainedModel) -> Any:
        from peft import PrefixTuningConfig

        from warmstart.models.peft.prompts import prefix_settings

        settings = prefix_settings(model, self.tokens)
        return PrefixTuningConfig(
            prefix_projection=self.projection,
            encoder_hidden_size=settings["token_dim"],
            **settings,
        )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        from warmstart.models.peft.prompts import begin_small

        adapted = super().attach(model, seed)
        begin_small(adapted, seed)
        return adapted
