"""What the methods with virtual tokens have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from warmstart.methods._peft import PeftMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.modules import ParamGroup


class PromptMethod(PeftMethod):
    """Learned vectors stand before the text; the model itself stays as it is, head apart."""

    moves_matrices: ClassVar[bool] = False
    changes: ClassVar[Literal["weights", "beside", "nothing"]] = "nothing"
    steps_wanted: ClassVar[int] = 1200
    epochs_between: ClassVar[tuple[int, int]] = (8, 40)
    head_rate: ClassVar[float] = 1e-3
    """The learning rate of the head, which takes smaller steps than the vectors do."""

    tokens: int = Field(default=20, ge=1, description="how many virtual tokens there are")

    @property
    def extra_tokens(self) -> int:
        return self.tokens

    def check(self, model: PreTrainedModel) -> None:
        from warmstart.models.peft.prompts import refuse_embeddings

        refuse_embeddings(self.part_name(), model)

    def param_groups(self, model: PreTrainedModel) -> list[ParamGroup]:
        from warmstart.models.modules import ParamGroup

        head = [p for n, p in model.named_parameters() if p.requires_grad and "prompt_" not in n]
        share = self.head_rate / self.default_learning_rate(0)
        return [ParamGroup(head, min(1.0, share))] if head else []
