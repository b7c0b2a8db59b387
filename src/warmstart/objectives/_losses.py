"""The loss of each kind of head, summed over a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # a target that counts nothing


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
        flat, wanted, ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )


def text(outputs: Any, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of one of the vocabulary a token: from what stands before the logits, in
    chunks, or from logits [B, L, V]."""
    from warmstart.models.chunked import Unprojected, chunked_cross_entropy

    if isinstance(outputs, Unprojected):
        return chunked_cross_entropy(outputs, targets, smoothing, IGNORED)
    return tokens(outputs, targets, smoothing)


def span(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of the first and the last token [B, 2], the mean of both; logits [B, L, 2]."""
    both = logits.transpose(1, 2)
    return tokens(both, targets, smoothing) / 2


LOSSES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "classes": classes,
    "labels": labels,
    "value": value,
    "tokens": tokens,
    "text": text,
    "span": span,
}
