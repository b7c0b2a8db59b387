"""What every method answers: which weights move, and what is saved of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from warmstart.models.modules import ParamGroup
from warmstart.part import Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from warmstart.models.base import Base

Changes = Literal["weights", "beside", "nothing"]
SMALL_WIDTH = 512


class Method(Part):
    """A way to adapt: attach it to a model, train what then requires gradients, save."""

    kind: ClassVar[str] = "method"
    caches_features: ClassVar[bool] = False
    """Whether the body is never trained, so that its outputs can be computed once."""
    saves_adapter: ClassVar[bool] = False
    """Whether the saved folder is a PEFT adapter rather than a whole model."""
    moves_matrices: ClassVar[bool] = True
    """Whether matrices inside the layers are trained, which `train.optimizer = "muon"` needs."""
    changes: ClassVar[Changes] = "weights"
    """What of the base it changes: its weights, what is added beside them, or only what stands
    before and after it."""
    learning_rates: ClassVar[tuple[float, float]]
    """The peak learning rates up to a width of 512, and above."""
    default_batch_size: ClassVar[int] = 16
    steps_wanted: ClassVar[int] = 300
    """Steps of the optimizer that usually suffice; decides the epochs where none are named."""
    epochs_between: ClassVar[tuple[int, int]] = (4, 12)

    @property
    def extra_tokens(self) -> int:
        """Positions of the model that the method takes away from the text."""
        return 0

    @property
    def keeps_states(self) -> bool:
        """Whether what the blocks below the cut give is kept on disk."""
        return False

    def default_learning_rate(self, hidden_size: int) -> float:
        """The peak learning rate where the recipe names none: small models take larger steps."""
        return self.learning_rates[0 if hidden_size <= SMALL_WIDTH else 1]

    def check(self, model: PreTrainedModel) -> None:
        """Raise `RecipeError` where the method makes no sense for a model's architecture.

        `architectures.skeleton(config)` serves as the model before there is one.
        """

    def attach(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """Mark what moves; may wrap or extend the model. Raises `RecipeError` as `check` does."""
        raise NotImplementedError

    def param_groups(self, model: PreTrainedModel) -> list[ParamGroup]:
        """The weights that do not simply move at the full learning rate from the first step."""
        return []

    def cut(self, model: PreTrainedModel) -> int:
        """How many of the first blocks stand still, embeddings included; or 0."""
        return 0

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """The adapted model as a plain one. Raises `RunError` where that cannot be."""
        return model

    def save(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        folder: Path,
        base: Base,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a plain Hugging Face folder, or that of an adapter, which PEFT loads and which
        names its base; `notes` are kept beside it. Raises `RunError`."""
        from warmstart.models.saving import save_model

        for config in getattr(model, "peft_config", {}).values():
            config.base_model_name_or_path = base.hub_id or base.shared_name
        save_model(model, tokenizer, folder, base, notes={**self.notes(), **(notes or {})})

    def notes(self) -> dict[str, Any]:
        """What our loader must know beyond what the folder says."""
        return {}
