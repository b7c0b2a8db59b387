"""Only the norms and the head move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmstart.methods._peft import PeftMethod
from warmstart.models.modules import norm_names
from warmstart.models.peft.wrap import shared_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LayerNorm(PeftMethod):
    """Tune the normalisation layers (Zhao et al. 2023), a fraction of a per mille of the model."""

    learning_rates = (1e-3, 1e-3)
    moves_matrices = False
    changes = "weights"
    steps_wanted = 600
    epochs_between = (6, 24)

    def config(self, model: PreTrainedModel) -> Any:
        from peft import LNTuningConfig

        return LNTuningConfig(target_modules=norm_names(model), **shared_settings(model))
