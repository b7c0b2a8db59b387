"""One label for a text, by a head of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.tasks.classification import Classification

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from warmstart.models.base import Base


class Custom(Classification):
    """Single-label classification by any `torch.nn.Module` over the pretrained body.

    The module is made as `Head(hidden_size, num_labels, **module_settings)` and called as
    `head(hidden [B, L, H], mask [B, L])`, mask 1 for tokens and 0 for padding; it returns logits
    [B, K].
    """

    module: str = Field(
        default="",
        description="path of a torch.nn.Module class of yours, as in my_package.heads.MyHead",
    )
    module_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="what the class is made with, beside the two sizes",
        examples=["{dropout = 0.2}"],
    )

    def check_base(self, base: Base, labels: Sequence[str]) -> None:
        from warmstart.models.custom_head import try_head

        if not self.module:
            raise RecipeError("task custom needs a head: --task.module my_package.heads.MyHead")
        try_head(base, self.module, self.module_settings, len(labels))

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        from warmstart.models.custom_head import load_own

        return load_own(base, self.module, self.module_settings, labels, seed)
