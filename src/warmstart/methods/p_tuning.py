"""Embeddings before the text that a small network makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.methods._peft import PromptMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PTuning(PromptMethod):
    """P-tuning (Liu et al. 2021): the virtual tokens come out of a small network, which makes
    them easier to learn; only what comes out of it is saved."""

    learning_rates = (1e-3, 1e-3)
    encoder: Literal["mlp", "lstm"] = Field(
        default="mlp", description="the network that makes the virtual tokens"
    )

    def config(self, model: PreTrainedModel) -> Any:
        from peft import PromptEncoderConfig, PromptEncoderReparameterizationType

        from warmstart.models.peft.prompts import prompt_settings

        settings = prompt_settings(model, self.tokens)
        return PromptEncoderConfig(
            encoder_reparameterization_type=PromptEncoderReparameterizationType(
                self.encoder.upper()
            ),
            encoder_hidden_size=settings["token_dim"],
            **settings,
        )
