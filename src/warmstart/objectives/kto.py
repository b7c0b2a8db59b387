"""Kahneman-Tversky optimisation: each answer for itself is good or bad, measured from how far the
model is from the reference at all (Ethayarajh et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.objectives.base import Dataset
from warmstart.objectives.preferences import Pairs, PreferenceObjective

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from warmstart.models.forward import Batch, Forward


class Kto(PreferenceObjective):
    """With r the log-ratio of an answer to the reference and z how far the model has gone from it:
    λ_D (1 - σ(β (r - z))) of a chosen answer, λ_U (1 - σ(β (z - r))) of a rejected one.

    z is the mean log-ratio of mismatched answers, those of another prompt, in the step; at least 0
    and without gradient. The other prompt's answers are always those of the next row, so that the
    reference has to be asked once. A step is computed at once, for all of its answers share z.
    """

    whole_steps: ClassVar[bool] = True

    beta: float = Field(default=0.1, gt=0, description="how dear it is to leave the reference")
    desirable_weight: float = Field(
        default=1.0, gt=0, description="weight of the chosen answers (λ_D)"
    )
    undesirable_weight: float = Field(
        default=1.0, gt=0, description="weight of the rejected answers (λ_U)"
    )

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The rows, and their prompts with the answers of other rows."""
        batch = dataset.collate(rows)
        rowed: Any = dataset
        inputs = {**batch.inputs, "by": _both, "mismatched": rowed.inputs(_shifted(rowed), rows)}
        return replace(batch, inputs=inputs, weight=self.weigh(batch))

    def weigh(self, batch: Batch) -> Tensor:
        """Both answers of its rows."""
        return 2 * batch.weight

    def of_reference(self, rows: Any, forward: Forward) -> np.ndarray:
        """Of the answers and of the mismatched ones, [n, 4]."""
        own = super().of_reference(rows, forward)
        original, rows.dataset = rows.dataset, _shifted(rows)
        try:
            return np.concatenate([own, super().of_reference(rows, forward)], 1)
        finally:
            rows.dataset = original

    def pairs(self, policy: Tensor, batch: Batch) -> Pairs:
        """As ever; the mismatched answers are behind the own ones [B, 4]."""
        sizes = batch.inputs["sizes"].to(policy.dtype)
        reference = batch.targets
        if not reference.is_floating_point():
            reference = policy.new_full(policy.shape, float("nan"))
        return Pairs(policy, reference, sizes)

    def rewards(self, pairs: Pairs) -> Tensor:
        return self.beta * pairs.ratios[:, :2]

    def distance(self, pairs: Pairs) -> Tensor:
        """How far the model has gone from the reference (z), a scalar without gradient."""
        return pairs.ratios[:, 2:].detach().mean().clamp(min=0)

    def cost(self, pairs: Pairs) -> Tensor:
        from torch import sigmoid

        ratios, far = pairs.ratios[:, :2], self.distance(pairs)
        chosen = 1 - sigmoid(self.beta * (ratios[:, 0] - far))
        rejected = 1 - sigmoid(self.beta * (far - ratios[:, 1]))
        return self.desirable_weight * chosen + self.undesirable_weight * rejected

    def shown(self, pairs: Pairs) -> Mapping[str, Tensor]:
        """Also the distance from the reference (`kl`), the same for all pairs of a step."""
        own = super().shown(pairs)
        return {**own, "kl": self.distance(pairs).expand(len(pairs.policy))}


def _both(forward: Forward, inputs: Mapping[str, Any]) -> Tensor:
    """Log-probabilities of the answers and, without gradient, of the mismatched ones, [B, 4]."""
    import torch

    from warmstart.models.fast.pairs import answer_log_probs

    own = answer_log_probs(forward, inputs)
    with torch.no_grad():
        others = answer_log_probs(forward, inputs["mismatched"])
    return torch.cat([own, others], 1)


def _shifted(rows: Any) -> Any:
    """The dataset of the rows with each prompt before the answers of the next row."""
    dataset = rows.dataset
    order = np.roll(np.arange(len(dataset)), -1)
    return replace(dataset, answers=dataset.answers.taken(order))
