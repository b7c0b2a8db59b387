"""Cross-entropy over a large vocabulary without ever holding all logits.

The logits of a chunk of tokens are made, used and forgotten, their gradient with them; what stays
is the gradient of the hidden states and of the output matrix. The result is that of the whole
logits; of sums in another order only the last digits differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from warmstart.data.tokens.dataset import IGNORE_INDEX

CHUNK_LOGITS = 1 << 23
"""Logits that are held at once: 32 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Unprojected:
    """What an output matrix reads, before it is multiplied: logits are hidden @ weight.T + bias.

    `hidden` [..., H], `weight` [V, H], `bias` [V] or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def logits(self) -> Tensor:
        """All of them at once [..., V], in float32."""
        return torch.nn.functional.linear(self.hidden, self.weight, self.bias).float()

    def at(self, places: Tensor) -> Unprojected:
        """The hidden states [T, H] at the places [...] that are true."""
        return Unprojected(self.hidden[places], self.weight, self.bias)

    def at_rows(self, rows: slice) -> Unprojected:
        """The first dimension's `rows` alone."""
        return Unprojected(self.hidden[rows], self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of each of T target tokens."""

    nll: Tensor
    """[T] minus the log of the probability that it gives to the token."""
    hit: Tensor
    """[T] whether no other token is likelier."""


def chunked_cross_entropy(
    outputs: Unprojected, targets: Tensor, smoothing: float = 0.0, ignored: int = IGNORE_INDEX
) -> Tensor:
    """The summed cross-entropy in nats, as `torch.nn.functional.cross_entropy` computes it.

    Args:
        targets: [...] the token that each hidden state should lead to; `ignored` counts nothing.
        smoothing: share of the target that is spread over the whole vocabulary.
    """
    at = outputs.at(targets != ignored)
    wanted = targets[targets != ignored]
    return _Summed.apply(at.hidden, at.weight, at.bias, wanted, smoothing)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def told(outputs: Unprojected | Tensor, targets: Tensor) -> Told:
    """As `Told`, of hidden states [T, H], in chunks, or of logits [T, V]; and targets [T]."""
    nll, hit = torch.zeros(len(targets)), torch.zeros(len(targets), dtype=torch.bool)
    whole = isinstance(outputs, Tensor)
    for part in _parts(len(targets), outputs.shape[1] if whole else len(outputs.weight)):
        logits = outputs[part].float() if whole else outputs.at_rows(part).logits()
        own = logits.gather(1, targets[part, None])[:, 0]
        nll[part] = (logits.logsumexp(-1) - own).cpu()
        hit[part] = (logits.amax(-1) <= own).cpu()
    return Told(nll, hit)


def _parts(tokens: int, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_LOGITS // vocabulary)
    return [slice(start, start + size) for start in range(0, tokens, size)]


class _Summed(torch.autograd.Function):
    """Loss and gradients in one pass: each chunk's logits are gone before the next ones come."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
    ) -> Tensor:
        kind = _kind(hidden)
        low, matrix = hidden.to(kind), weight.to(kind)
        asks_hidden, asks_weight = hidden.requires_grad, weight.requires_grad
        grad_hidden = torch.empty_like(hidden) if asks_hidden else None
        grad_weight = torch.zeros_like(weight) if asks_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in _parts(len(targets), len(weight)):
                logits = torch.nn.functional.linear(low[part], matrix).float()
                if bias is not None:
                    logits += bias
                total += _loss(logits, targets[part], smoothing)
                if grad_hidden is None and grad_weight is None:
                    continue
                slope = _slope(logits, targets[part], smoothing).to(kind)
                if grad_hidden is not None:
                    grad_hidden[part] = (slope @ matrix).to(hidden.dtype)
                if grad_weight is not None:
                    grad_weight += (slope.T @ low[part]).to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        scale = grads[0]
        return (
            None if hidden is None else hidden * scale.to(hidden.dtype),
            None if weight is None else weight * scale.to(weight.dtype),
            None,
            None,
            None,
        )


def _kind(hidden: Tensor) -> torch.dtype:
    """The type of the products: that of autocast where it is on."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype


def _loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    return torch.nn.functional.cross_entropy(
        logits, targets, label_smoothing=smoothing, reduction="sum"
    )


def _slope(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The gradient of the summed loss: probabilities minus the (smoothed) target."""
    slope = torch.softmax(logits, -1)
    if smoothing:
        slope -= smoothing / logits.shape[1]
    slope[torch.arange(len(targets), device=slope.device), targets] -= 1.0 - smoothing
    return slope
