"""The training loop: a generator of steps. Whoever wants to save, log, show or stop listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from warmstart.models.forward import Compute
from warmstart.training.batches import Batch, Feed
from warmstart.training.optimizer import Optimizer
from warmstart.training.regularization.regularizer import Keeper

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Weight = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one step of the optimizer. `loss` and `grad_norm` stay on the device."""

    index: int
    """Steps done so far, this one included."""
    epoch: int
    """Epochs begun so far, this one included."""
    loss: Tensor
    grad_norm: Tensor
    learning_rate: float
    rows: int
    tokens: int
    """Computed in this step; 0 where a head reads hidden states that were computed once."""
    seconds: float
    ends_epoch: bool


def steps(
    feed: Feed,
    compute: Compute,
    optimizer: Optimizer,
    loss: Loss,
    weight: Weight,
    *,
    epochs: int,
    seed: int,
    done: int = 0,
    keeper: Keeper | None = None,
) -> Iterator[Step]:
    """Train, yielding after every step of the optimizer.

    Every step is a function of the weights, `seed` and its own number, so that a run which begins
    again at `done` goes exactly the way it would have gone.
    """
    index = 0
    for epoch in range(epochs):
        plan = feed.epoch(seed, epoch)
        if index + len(plan) <= done:
            index += len(plan)
            continue
        compute.begin_epoch(_mix(seed, epoch))
        for number, rows in enumerate(plan):
            if index < done:
                index += 1
                continue
            begun = time.perf_counter()
            compute.begin_step(_mix(seed + 1, index))
            share = 1.0 if keeper is None else keeper.share(index)
            total, tokens = _gradients(feed, compute, loss, weight, feed.batches(rows), share)
            if keeper is not None:
                keeper.add(index)
            rate, norm = optimizer.step(index)
            compute.after_step()
            index += 1
            seconds = time.perf_counter() - begun
            ends = number == len(plan) - 1
            yield Step(index, epoch + 1, total, norm, rate, len(rows), tokens, seconds, ends)


def _gradients(
    feed: Feed,
    compute: Compute,
    loss: Loss,
    weight: Weight,
    batches: list[Batch],
    times: float = 1.0,
) -> tuple[Tensor, int]:
    """The mean loss over all micro-batches, its gradient (so many times) collected; and the tokens
    computed, of which a head on hidden states that were computed before needs none."""
    whole = torch.stack([weight(batch.targets) for batch in batches]).sum()
    mean = torch.zeros_like(whole)
    for number, batch in enumerate(batches):
        total, _ = loss(feed.logits(batch, training=True), batch.targets)
        share = total / whole
        (share if times == 1 else share * times).backward()
        compute.collect(accumulate=number > 0)
        mean = mean + share.detach()
    return mean, sum(batch.tokens for batch in batches if batch.states is None)


def _mix(seed: int, number: int) -> int:
    """A seed for one step or epoch, far from its neighbours' (SplitMix64 finaliser)."""
    x = (seed * 0x9E3779B97F4A7C15 + number + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) >> 2
