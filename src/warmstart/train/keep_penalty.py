"""Weights held near where they began: L2-SP, and elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from warmstart.models.heads import unwrap
from warmstart.models.targets import head_names
from warmstart.train.keep_readers import LanguageReader, Piece, Reader, resting

PASSAGES = 128  # that the Fisher information is estimated from


class Penalty:
    """strength / 2 * the sum of F (w - w0)² over the base's trained weights, as a gradient.

    With F = 1 this is L2-SP (Li et al. 2018), with the diagonal Fisher information elastic weight
    consolidation (Kirkpatrick et al. 2017). The gradient is added to the loss's own before it is
    clipped, so that the optimizer sees exactly that of the sum.

    Args:
        weights: the trained weights; they begin where they are now.
        fisher: for each of them, or nothing for F = 1.
    """

    def __init__(
        self, weights: Sequence[nn.Parameter], strength: float, fisher: Sequence[Tensor] = ()
    ) -> None:
        self.weights, self.strength, self.fisher = list(weights), strength, list(fisher)
        self.starts = [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def add(self) -> None:
        """Add its gradient where the loss has one."""
        moved = [at for at, weight in enumerate(self.weights) if weight.grad is not None]
        if not moved:
            return
        gaps = torch._foreach_sub(
            [self.weights[at].detach() for at in moved], [self.starts[at] for at in moved]
        )
        if self.fisher:
            torch._foreach_mul_(gaps, [self.fisher[at] for at in moved])
        gradients: Any = [self.weights[at].grad for at in moved]
        torch._foreach_add_(gradients, gaps, alpha=self.strength)

    @torch.no_grad()
    def value(self) -> float:
        """What it adds to the loss."""
        total = 0.0
        for at, (weight, start) in enumerate(zip(self.weights, self.starts, strict=True)):
            gap = (weight - start).square()
            total += float((gap * self.fisher[at] if self.fisher else gap).sum())
        return self.strength / 2 * total


def base_weights(model: Any, *, writes: bool) -> dict[str, nn.Parameter]:
    """The trained weights that come from the base, by name: all but a new head."""
    inner = unwrap(model)
    new = [] if writes else [inner.get_submodule(name) for name in head_names(inner)]
    fresh = {id(weight) for module in new for weight in module.parameters()}
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.requires_grad and id(weight) not in fresh
    }


def fisher(
    reader: Reader, weights: Mapping[str, nn.Parameter], texts: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """The diagonal Fisher information of up to 128 passages, with a mean of 1 over all weights.

    With a language-model head: the mean square of each passage's gradient of its summed log-
    likelihood (the empirical Fisher). Without: that of the mean state read as the mean of a normal
    distribution, whose Fisher is J'J; the diagonal by random signs (Hutchinson 1990). The weights'
    own gradients are not touched.
    """
    chosen = reader.pieces([texts[at] for at in _evenly(len(texts))])
    chance = torch.Generator().manual_seed(seed)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with resting(reader.model):
        for piece in chosen:
            value = _scalar(reader, piece, chance)
            slopes = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for held, slope in zip(total.values(), slopes, strict=True):
                if slope is not None:
                    held.addcmul_(slope, slope)
    count = sum(held.numel() for held in total.values())
    mean = sum(float(held.double().sum()) for held in total.values()) / max(count, 1)
    for held in total.values():
        held.div_(mean or 1.0)
    return total


def _scalar(reader: Reader, piece: Piece, chance: torch.Generator) -> Tensor:
    if isinstance(reader, LanguageReader):
        return reader.told([piece])[0].sum()
    states = reader.states([piece])
    signs = torch.randint(0, 2, states.shape, generator=chance) * 2 - 1
    return (states * signs.to(states)).sum()


def _evenly(count: int) -> list[int]:
    size = min(PASSAGES, count)
    return [at * count // size for at in range(size)]
