"""A factor for every key, value and inner feed-forward feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmstart.methods._peft import PeftMethod
from warmstart.models.architectures import family_of
from warmstart.models.modules import match_modules
from warmstart.models.peft.wrap import shared_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class IA3(PeftMethod):
    """(IA)^3 (Liu et al. 2022): keys, values and feed-forward features are scaled; the fewest
    weights of all methods."""

    learning_rates = (1e-2, 3e-3)
    moves_matrices = False
    steps_wanted = 600
    epochs_between = (6, 24)

    def config(self, model: PreTrainedModel) -> Any:
        from peft import IA3Config

        family = family_of(model.config)
        inner = match_modules(model, family.feed_forward_out)
        return IA3Config(
            target_modules=[*match_modules(model, family.keys_values), *inner],
            feedforward_modules=inner,
            **shared_settings(model),
        )
