"""One label for a text, from a few labelled texts of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.tasks.classification import Classification

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel

    from warmstart.models.base import Base
    from warmstart.models.forward import Forward

MANY = 64


class FewShot(Classification):
    """Classification in two steps, for 8 to 64 texts of each label: the body learns to bring texts
    of one label together, then a logistic regression on what it gives becomes the head.

    As SetFit (Tunstall et al. 2022), but every text of a batch is compared with every other
    (Khosla et al. 2020) instead of drawn pairs, and the head stands in the model itself, which is
    a plain sequence classifier.
    """

    objective: ClassVar[str] = "contrastive"
    without_both: ClassVar[str] = "task classification, or another base"
    default_batch: ClassVar[int | None] = 64
    default_epochs: ClassVar[int | None] = 3

    head_strength: float = Field(
        default=10.0, gt=0, description="C of the logistic regression: larger, less held back"
    )

    def check(self, method: Any) -> None:
        if method.saves_adapter or method.caches_features:
            what = "saves an adapter" if method.saves_adapter else "leaves the body as it is"
            raise RecipeError(
                f"method {method.part_name()} {what}, and few_shot trains the body and builds the "
                "head into it; take full or partial, or task classification"
            )

    def default_rate(self, method: Any, width: int) -> float:
        """Half of the method's: more, and few texts are learned by heart rather than their kind."""
        return method.default_learning_rate(width) / 2

    def data_notes(self, train: pa.Table) -> list[str]:
        counts = sorted(Counter(train["label"].to_pylist()).values())
        middle = counts[len(counts) // 2]
        if middle <= MANY:
            return []
        return [f"There are {middle} rows of the middle label: task classification suits so many."]

    def build_model(self, base: Base, labels: Sequence[str], seed: int) -> PreTrainedModel:
        from warmstart.models.head_layers import straighten

        model = super().build_model(base, labels, seed)
        straighten(model)
        return model

    def forward(self, model: Any) -> Forward:
        """Without dropout, which so few steps do not need; of the body alone."""
        from warmstart.models.fast.forward import forward_for
        from warmstart.models.head_layers import BELOW_HEAD, freeze_head

        freeze_head(model)
        forward = forward_for(model, BELOW_HEAD)
        forward.without_dropout()
        return forward

    def to_metadata(self) -> dict[str, Any]:
        """A plain classifier's note: that is what the folder holds."""
        return {"name": "classification", "max_length": self.max_length}
