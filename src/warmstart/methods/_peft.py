"""What the methods that PEFT carries out have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from warmstart.methods.base import Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base


class PeftMethod(Method):
    """An adapter: the base stands still, a small part beside it and the head are trained."""

    saves_adapter: ClassVar[bool] = True
    changes: ClassVar[Literal["weights", "beside", "nothing"]] = "beside"

    def config(self, model: PreTrainedModel) -> Any:
        """The `PeftConfig` for this model."""
        raise NotImplementedError

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        from warmstart.models.peft.wrap import adapted

        self.check(model)
        return adapted(model, self.config(model), seed)

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """The adapter in the weights, the trained head in its place.

        Raises `RunError` for bottleneck adapters and virtual tokens, which are no change of the
        weights.
        """
        from warmstart.models.peft.wrap import merged

        return merged(model)

    def save(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        base: Base,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an adapter folder that PEFT loads; it names its base."""
        from warmstart.models.saving import save_model

        adapted: Any = model
        for config in adapted.peft_config.values():
            config.base_model_name_or_path = base.name if base.source == "hub" else str(base.path)
        save_model(model, tokenizer, folder, base, notes={**self.notes(), **(notes or {})})

    def notes(self) -> dict[str, Any]:
        """What our loader must know beyond what PEFT's config says."""
        return {}
