"""Cross-entropy, or focal loss, with the labels that people gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import Field, PrivateAttr, model_validator

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.models.heads import CLASSES, SPAN, TEXT, TOKENS, Head
from warmstart.objectives.base import Loss, Objective, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward


# The loss of each kind of head, summed over a batch.


def classes(
    logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of one class a row, logits [B, K]."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(
        logits, targets, weight=weights, label_smoothing=smoothing, reduction="sum"
    )


def labels(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Binary cross-entropy of each label [B, K], the mean over the labels."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    wanted = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / logits.shape[1]


def value(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Squared error of one number a row, outputs [B, 1]; there is nothing to smooth."""
    from torch.nn.functional import mse_loss

    return mse_loss(outputs[:, 0], targets.to(outputs.dtype), reduction="sum")


def tokens(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of one class a token, logits [B, L, K]."""
    from torch.nn.functional import cross_entropy

    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    return cross_entropy(
        flat, wanted, ignore_index=IGNORE_INDEX, label_smoothing=smoothing, reduction="sum"
    )


def text(outputs: Any, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of one of the vocabulary a token: from what stands before the logits, in
    chunks, or from logits [B, L, V]."""
    from warmstart.models.fast.loss import Unprojected, chunked_cross_entropy

    if isinstance(outputs, Unprojected):
        return chunked_cross_entropy(outputs, targets, smoothing, IGNORE_INDEX)
    return tokens(outputs, targets, smoothing)


def span(logits: Tensor, targets: Tensor, smoothing: float, lengths: Tensor) -> Tensor:
    """Cross-entropy of the first and the last token [B, 2] among those of the row, the mean of
    both; logits [B, L, 2], of which a row has `lengths` [B]: padding is never an answer."""
    import torch

    real = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
    log_p = logits.masked_fill(~real[..., None], -torch.inf).log_softmax(1)
    counted = targets != IGNORE_INDEX
    nll = -log_p.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    if smoothing:
        even = -log_p.masked_fill(~real[..., None], 0.0).sum(1) / lengths[:, None]
        nll = (1 - smoothing) * nll + smoothing * even
    return nll[counted].sum() / 2


LOSSES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "classes": classes,
    "labels": labels,
    "value": value,
    "tokens": tokens,
    "text": text,
}


FOCAL_GAMMA = 2.0  # the choice of Lin et al.


class Supervised(Objective):
    """Cross-entropy, optionally smoothed (Szegedy et al. 2016), or focal loss (Lin et al. 2017);
    either one optionally weighted by class."""

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

    _head: Head = PrivateAttr(default=CLASSES)
    _class_weights: Any = PrivateAttr(default=None)
    """[K] float32, or None."""

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

    @property
    def heads(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The heads that it can train; see `warmstart.models.heads.Head`."""
        plain = self.loss_function == "cross_entropy" and self.class_weights == "none"
        return frozenset({*LOSSES, SPAN.name}) if plain else frozenset({"classes"})

    def setup(self, session: Setting) -> None:
        """Learn the head, and the weights of the classes from the rows that are trained on."""
        import torch

        from warmstart.data.sampling import class_weights

        self._head = session.head
        if self.class_weights == "balanced":
            weights = class_weights(session.train_targets(), len(session.labels))
            self._class_weights = torch.tensor(weights, dtype=torch.float32, device=session.device)

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """Divided by the summed weights of several micro-batches it is exactly that of the whole
        batch, however unequal the parts are. Focal loss is not divided by its own factors: it is
        the mean of what the rows have left to learn.
        """
        outputs = model.forward(batch)
        if self._head.over_tokens:
            lengths = batch.inputs["lengths"]
            total = span(cast("Any", outputs), batch.targets, self.label_smoothing, lengths)
        else:
            total = self.total(outputs, batch.targets)
        return Loss(total, batch.weight)

    def total(self, outputs: Any, targets: Tensor) -> Tensor:
        """The summed loss of outputs.

        Args:
            outputs: of the head, float32: [B, K], or [B, L, K] of every token.
            targets: what they should be: classes [B], labels [B, K] of 0 and 1, values [B],
                classes of tokens [B, L], or first and last tokens [B, 2]; -100 counts nothing.
        """
        if not self._head.single_label:
            return LOSSES[self._head.name](outputs, targets, self.label_smoothing)
        if self.loss_function == "focal":
            return self._focal(outputs, targets, self._class_weights)
        return classes(outputs, targets, self.label_smoothing, self._class_weights)

    def weigh(self, batch: Batch) -> Tensor:
        """What a batch counts: its rows, its labelled tokens, or the sum of its class weights."""
        if self._head in (TOKENS, TEXT):
            return (batch.targets != IGNORE_INDEX).sum().float()
        weights = self._class_weights
        return batch.weight if weights is None else weights[batch.targets].sum()

    def _focal(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """The sum of -w (1 - p)^gamma log p over the rows, p the probability of the true class."""
        import torch

        gamma = FOCAL_GAMMA if self.focal_gamma is None else self.focal_gamma
        log_p = torch.log_softmax(logits, -1).gather(1, targets[:, None])[:, 0]
        missing = (-torch.expm1(log_p)).clamp(min=1e-12)  # below one, a power has no slope at 0
        rows = -(missing**gamma) * log_p
        return (rows if weights is None else weights[targets] * rows).sum()
