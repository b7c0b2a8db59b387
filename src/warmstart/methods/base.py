"""What every method answers: which weights move, and what is saved of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from warmstart.parts import Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.catalog import Base


class Method(Part):
    """A way to adapt: attach it to a model, train what then requires gradients, save."""

    kind: ClassVar[str] = "method"
    caches_features: ClassVar[bool] = False
    """Whether the body is never trained, so that its outputs can be computed once."""
    default_batch_size: ClassVar[int] = 16
    steps_wanted: ClassVar[int] = 300
    """Steps of the optimizer that usually suffice; decides the epochs where none are named."""
    epochs_between: ClassVar[tuple[int, int]] = (4, 12)

    def default_learning_rate(self, hidden_size: int) -> float:
        """The peak learning rate where the recipe names none."""
        raise NotImplementedError

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Mark what moves; may wrap or extend the model."""
        raise NotImplementedError

    def save(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, base: Base
    ) -> None:
        """Write a plain Hugging Face folder. Raises `RunError`."""
        from warmstart.models.saving import save_model

        save_model(model, tokenizer, folder, base)
