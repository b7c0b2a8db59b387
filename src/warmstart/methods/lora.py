"""Low-rank changes beside frozen matrices, saved in the format of PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from warmstart.errors import RecipeError
from warmstart.methods._peft import PeftMethod
from warmstart.models.modules import adapter_targets
from warmstart.models.peft.wrap import remember_pissa, shared_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LoRA(PeftMethod):
    """Low-rank adaptation (Hu et al. 2021): W x + (alpha / rank) B A x, with W frozen."""

    learning_rates = (1e-3, 3e-4)
    rank: int = Field(default=16, ge=1, description="width of the low-rank change")
    alpha: float = Field(default=32.0, gt=0, description="the change is scaled by alpha / rank")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout on the input of the change"
    )
    targets: Literal["attention", "all"] = Field(
        default="all", description="which matrices are adapted: attention's, or all of every layer"
    )
    use_dora: bool = Field(
        default=False, description="learn the length of each column apart (DoRA, Liu et al. 2024)"
    )
    use_rslora: bool = Field(
        default=False, description="scale by alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023)"
    )
    init: Literal["default", "pissa"] = Field(
        default="default",
        description="where the change begins: at zero, or at the largest singular values of the "
        "matrix (PiSSA, Meng et al. 2024)",
    )
    base_bits: Literal[4, 8, 32] = Field(
        default=32,
        description="bits of a weight of the frozen base: 8 or 4 as in QLoRA (Dettmers et al. "
        "2023) need less memory and more time",
    )

    @model_validator(mode="after")
    def _fits(self) -> LoRA:
        if self.init == "pissa" and (self.use_dora or self.base_bits != 32):
            other = "use_dora" if self.use_dora else "base_bits"
            raise ValueError(f"init pissa and {other} both change the base; take one of them")
        return self

    def config(self, model: PreTrainedModel) -> Any:
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=self.dropout,
            target_modules=adapter_targets(model, self.targets),
            use_dora=self.use_dora,
            use_rslora=self.use_rslora,
            init_lora_weights="pissa" if self.init == "pissa" else True,
            **shared_settings(model),
        )

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        from warmstart.models.peft.quantization import quantise

        if self.base_bits != 32 and not quantise(model, self.base_bits):
            raise RecipeError(
                f"method.base_bits: the layers of '{model.config.model_type}' in transformers are "
                "none that can be rounded; leave it at 32"
            )
        adapted = super().attach(model, seed)
        if self.init == "pissa":
            remember_pissa(adapted)
        return adapted

    def notes(self) -> dict[str, Any]:
        return {} if self.base_bits == 32 else {"base_bits": self.base_bits}
