"""Small bottlenecks behind frozen layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.methods._peft import PeftMethod
from warmstart.models.architectures import family_of
from warmstart.models.modules import match_modules
from warmstart.models.peft.wrap import shared_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Adapter(PeftMethod):
    """Bottleneck adapters: y + up(act(down(y))) behind a layer, the layer itself frozen.

    PEFT has none; ours are registered with it, so that `PeftModel.from_pretrained` loads the
    folder after `import warmstart.models.peft.bottleneck`. They cannot be merged.
    """

    learning_rates = (1e-3, 3e-4)
    placement: Literal["houlsby", "pfeiffer"] = Field(
        default="houlsby",
        description="behind attention and the feed-forward part (Houlsby et al. 2019), or behind "
        "the latter alone (Pfeiffer et al. 2020)",
    )
    size: int = Field(default=32, ge=1, description="width of the bottleneck")
    activation: Literal["gelu", "relu", "silu", "tanh"] = Field(
        default="gelu", description="the function inside the bottleneck"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the bottleneck")

    def config(self, model: PreTrainedModel) -> Any:
        from warmstart.models.peft.bottleneck import BottleneckConfig

        family = family_of(model.config)
        places = family.feed_forward_out
        if self.placement == "houlsby":
            places = (*family.attention_out, *places)
        return BottleneckConfig(
            target_modules=match_modules(model, places),
            size=self.size,
            activation=self.activation,
            dropout=self.dropout,
            **shared_settings(model),
        )
