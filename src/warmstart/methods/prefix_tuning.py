"""Learned keys and values before the text, in every layer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.methods._peft import PromptMethod
from warmstart.models.architectures import body_of, family_of
from warmstart.models.hf_calls import seeded
from warmstart.models.peft.wrap import task_type

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PrefixTuning(PromptMethod):
    """Prefix tuning (Li & Liang 2021): every layer attends to some keys and values of its own."""

    learning_rates = (5e-3, 5e-3)
    projection: bool = Field(
        default=False, description="make the prefixes by a small network while they are learned"
    )

    def check(self, model: PreTrainedModel) -> None:
        family, classifies = family_of(model.config), task_type(model) == "SEQ_CLS"
        takes = any(
            "past_key_values" in inspect.signature(part.forward).parameters
            for part in (model, body_of(model))
        )
        if not takes or (family.kind == "encoder-decoder" and classifies):
            other = "lora" if family.kind == "encoder-decoder" else "prompt_tuning"
            raise RecipeError(
                f"method {self.part_name()} puts keys and values before the text's, and "
                f"{'the classifier of ' if classifies else ''}'{family.name}' in transformers "
                f"takes none (no past_key_values); take {other}"
            )

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
        adapted: Any = super().attach(model, seed)
        with seeded(seed):  # near zero: at the usual normal(0, 1) they would drown the text
            adapted.prompt_encoder["default"].embedding.weight.data.normal_(0.0, 0.02)
        return adapted
