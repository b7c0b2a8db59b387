"""What a step does against forgetting: general text learned along, weights held near the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.models.head_layers import unwrap
from warmstart.models.modules import head_names
from warmstart.training.regularization.language_model import Piece, Reader
from warmstart.training.regularization.text import evenly

# Weights held near where they began: L2-SP, and elastic weight consolidation.

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
    rng = torch.Generator().manual_seed(seed)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    with reader.resting():
        for piece in reader.pieces(evenly(texts, PASSAGES)):
            if reader.lm is not None:
                value = reader.nll([piece])[0].sum()
            else:
                states = reader.states([piece])
                signs = torch.randint(0, 2, states.shape, generator=rng) * 2 - 1
                value = (states * signs.to(states)).sum()
            slopes = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            for held, slope in zip(total.values(), slopes, strict=True):
                if slope is not None:
                    held.addcmul_(slope, slope)
    count = sum(held.numel() for held in total.values())
    mean = sum(float(held.double().sum()) for held in total.values()) / max(count, 1)
    for held in total.values():
        held.div_(mean or 1.0)
    return total


@dataclass
class Regularizer:
    """Adds to the gradients of a step, as a function of the weights and the step's number alone.

    Nothing of it is kept in a checkpoint: what it needs of the base (start weights, Fisher
    information, states) is computed from the base and the text when a run begins, and computed
    again, the same, when it goes on.

    Args:
        replay: share of the rows of a step that are general text.
        learned: the passages to learn along.
        known: of those that will be needed, the base's own states, where it has no language-model
            head; `spread` is their mean squared distance from their mean.
    """

    forward: Any
    reader: Reader
    learned: Sequence[Piece] = ()
    replay: float = 0.0
    penalty: Penalty | None = None
    known: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    spread: float = 1.0
    _rows: Sequence[int] = ()
    _ends: np.ndarray | None = None
    """The passages of step i are _ends[i] to _ends[i + 1]; None where none are learned."""
    _seed: int = 0

    def plan(self, rows: Sequence[int], seed: int) -> None:
        """Learn which passages go with each step: `rows` of the task are in each of them.

        After any step the passages so far are `replay` of all rows so far, rounded.
        """
        self._rows, self._seed = rows, seed
        if not self.replay:
            return
        done = np.floor(np.cumsum(rows) * (self.replay / (1.0 - self.replay)) + 0.5)
        self._ends = np.concatenate([[0], done.astype(np.int64)])
        if self.reader.lm is None:
            self._know()

    def passages(self, index: int) -> list[int]:
        """The numbers of the passages of step `index`, counted from 0."""
        if self._ends is None:
            return []
        size, chosen = len(self.learned), list[int]()
        places = np.arange(self._ends[index], self._ends[index + 1])
        for number in np.unique(places // size).tolist():
            rng = np.random.Generator(np.random.PCG64([self._seed, 1 << 32, number]))
            chosen += rng.permutation(size)[places[places // size == number] % size].tolist()
        return chosen

    def share(self, index: int) -> float:
        """The share of the rows of a step that are the task's; what its loss is multiplied by."""
        if self._ends is None:
            return 1.0
        extra, own = int(self._ends[index + 1] - self._ends[index]), int(self._rows[index])
        return own / (own + extra)

    def add(self, index: int) -> None:
        """Add to the gradients of a step, before the optimizer moves."""
        chosen = self.passages(index)
        if chosen:
            self._replay(chosen, 1.0 - self.share(index))
        if self.penalty is not None:
            self.penalty.add()
        self.forward.filled()

    def _replay(self, chosen: list[int], share: float) -> None:
        reader, pieces = self.reader, [self.learned[at] for at in chosen]
        counted = sum(int((piece.targets != IGNORE_INDEX).sum()) for piece in pieces)
        with reader.resting():
            for part in reader.parts(pieces):
                some = [pieces[at] for at in part]
                if reader.lm is not None:
                    loss = reader.nll(some, self.forward.dtype)[0].sum() / max(counted, 1)
                else:
                    known = torch.stack([self.known[chosen[at]] for at in part])
                    gaps = reader.states(some, self.forward.dtype) - known
                    loss = gaps.square().sum() / (self.spread * len(pieces))
                (loss * share).backward()

    @torch.no_grad()
    def _know(self) -> None:
        """The base's own states of the passages that will be needed; and how far apart they are."""
        needed = sorted({at for index in range(len(self._rows)) for at in self.passages(index)})
        if not needed:
            return
        with self.reader.resting():
            states = self.reader.all_states([self.learned[at] for at in needed])
        self.known = dict(zip(needed, states, strict=True))
        self.spread = float((states - states.mean(0)).square().sum(1).mean()) or 1.0
