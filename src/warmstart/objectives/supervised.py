"""Cross-entropy, or focal loss, with the labels that people gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from warmstart.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

FOCAL_GAMMA = 2.0  # the choice of Lin et al.


class Supervised(Part):
    """Cross-entropy, optionally smoothed (Szegedy et al. 2016), or focal loss (Lin et al. 2017);
    either one optionally weighted by class."""

    kind: ClassVar[str] = "objective"

    loss_function: Literal["cross_entropy", "focal"] = Field(
        default="cross_entropy",
        description="focal: rows that are already right count less, (1 - p) ** focal_gamma",
    )
    focal_gamma: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="how much less, for loss_function focal; 0 is cross-entropy, unset: 2",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: each class counts alike, n / (classes * rows of the class)",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the target spread over all classes"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.loss_function == "focal" and self.label_smoothing:
            raise ValueError(
                "label_smoothing goes with loss_function cross_entropy: focal loss weighs a row by "
                "the probability of its one true class; take one of the two"
            )
        if self.loss_function != "focal" and self.focal_gamma is not None:
            raise ValueError(
                "focal_gamma does nothing without focal loss; add objective.loss_function focal, "
                "or leave it out"
            )
        return self

    def loss(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The summed loss of a batch and the weight that it has.

        Dividing the sums of several micro-batches by their weights' sum gives exactly the loss of
        the whole batch, however unequal the parts are. Focal loss is not divided by its own
        factors: it is the mean of what the rows have left to learn.

        Args:
            logits: [B, K] float32.
            targets: [B] class indices.
            weights: [K] class weights, or None.
        """
        from torch.nn.functional import cross_entropy

        if self.loss_function == "focal":
            return self._focal(logits, targets, weights), self.weight(targets, weights)
        total = cross_entropy(
            logits,
            targets,
            weight=weights,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return total, self.weight(targets, weights)

    def _focal(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The sum of -w (1 - p)^gamma log p over the rows, p the probability of the true class."""
        import torch

        gamma = FOCAL_GAMMA if self.focal_gamma is None else self.focal_gamma
        log_p = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
        missing = (-torch.expm1(log_p)).clamp(min=1e-12)  # below one, a power has no slope at 0
        rows = -(missing**gamma) * log_p
        return (rows if weights is None else weights[targets] * rows).sum()

    def weight(self, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """What a batch counts: its rows, or the sum of their class weights."""
        if weights is None:
            return targets.new_tensor(float(targets.numel()), dtype=None).float()
        return weights[targets].sum()
