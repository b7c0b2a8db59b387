"""Cross-entropy with the labels that people gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from warmstart.parts import Part

if TYPE_CHECKING:
    from torch import Tensor


class Supervised(Part):
    """Cross-entropy, optionally weighted by class and smoothed (Szegedy et al. 2016)."""

    kind: ClassVar[str] = "objective"

    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: each class counts alike, n / (classes * rows of the class)",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the target spread over all classes"
    )

    def loss(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The summed loss of a batch and the weight that it has.

        Dividing the sums of several micro-batches by their weights' sum gives exactly the loss of
        the whole batch, however unequal the parts are.

        Args:
            logits: [B, K] float32.
            targets: [B] class indices.
            weights: [K] class weights, or None.
        """
        from torch.nn.functional import cross_entropy

        total = cross_entropy(
            logits,
            targets,
            weight=weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total, self.weight(targets, weights)

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """What a batch counts: its rows, or the sum of their class weights."""
        if weights is None:
            return targets.new_tensor(float(targets.numel()), dtype=None).float()
        return weights[targets].sum()
