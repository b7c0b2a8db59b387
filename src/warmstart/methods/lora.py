"""Low-rank changes beside frozen matrices, saved in the format of PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.methods.base import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.catalog import Base


class LoRA(Method):
    """Low-rank adaptation (Hu et al. 2021): W x + (alpha / rank) B A x, with W frozen."""

    rank: int = Field(default=16, ge=1, description="width of the low-rank change")
    alpha: float = Field(default=32.0, gt=0, description="the change is scaled by alpha / rank")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout on the input of the change"
    )
    targets: Literal["attention", "all"] = Field(
        default="all", description="which matrices are adapted: attention's, or all of every layer"
    )

    def default_learning_rate(self, hidden_size: int) -> float:
        return 1e-3 if hidden_size <= 512 else 3e-4

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        from peft import LoraConfig, TaskType, get_peft_model

        from warmstart.models.families import family_of
        from warmstart.models.heads import adapter_targets
        from warmstart.models.quiet import quiet, seeded

        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            target_modules=adapter_targets(model, self.targets),
            modules_to_save=list(family_of(model.config).head_modules),
        )
        with quiet(), seeded(seed):
            return get_peft_model(model, config)  # pyright: ignore[reportReturnType]

    def save(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, base: Base
    ) -> None:
        """Write an adapter folder that PEFT loads; it names its base."""
        adapted: Any = model
        config = adapted.peft_config["default"]
        config.base_model_name_or_path = base.name if base.source == "hub" else str(base.path)
        super().save(model, tokenizer, folder, base)
