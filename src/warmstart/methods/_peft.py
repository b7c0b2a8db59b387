"""What the methods that PEFT carries out have in common, and those of them with virtual tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import family_of
from warmstart.models.modules import ParamGroup
from warmstart.models.peft.wrap import adapted, merged, task_type

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PeftMethod(Method):
    """An adapter: the base stands still, a small part beside it and the head are trained."""

    saves_adapter = True
    changes = "beside"

    def config(self, model: PreTrainedModel) -> Any:
        """The `PeftConfig` for this model."""
        raise NotImplementedError

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        self.check(model)
        return adapted(model, self.config(model), seed)

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """The adapter in the weights, the trained head in its place.

        Raises `RunError` for bottleneck adapters and virtual tokens, which are no change of the
        weights.
        """
        return merged(model)


class PromptMethod(PeftMethod):
    """Learned vectors stand before the text; the model itself stays as it is, head apart."""

    moves_matrices = False
    changes = "nothing"
    steps_wanted = 1200
    epochs_between = (8, 40)
    head_rate: ClassVar[float] = 1e-3
    """The learning rate of the head, which takes smaller steps than the vectors do."""

    tokens: int = Field(default=20, ge=1, description="how many virtual tokens there are")

    @property
    def extra_tokens(self) -> int:
        return self.tokens

    def check(self, model: PreTrainedModel) -> None:
        family = family_of(model.config)
        if family.kind == "encoder-decoder" and task_type(model) == "SEQ_CLS":
            raise RecipeError(
                f"method {self.part_name()} puts virtual tokens before the text, which "
                f"transformers' classifier of '{family.name}' does not take; take lora, ia3 or "
                "adapter"
            )

    def param_groups(self, model: PreTrainedModel) -> list[ParamGroup]:
        head = [p for n, p in model.named_parameters() if p.requires_grad and "prompt_" not in n]
        share = self.head_rate / self.default_learning_rate(0)
        return [ParamGroup(head, min(1.0, share))] if head else []
