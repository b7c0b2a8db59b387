"""The training loop: a generator of steps. Whoever wants to save, log, show or stop listens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from warmstart.models.forward import Batch, Forward
from warmstart.objectives.base import Objective, Position, Source
from warmstart.training.guard import Guard
from warmstart.training.optimizer import Optimizer
from warmstart.training.regularization.regularizer import Regularizer

BEGINNING = Position()
COLLATION = 15
"""Tells the random numbers of batches from others of the same step."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one step of the optimizer. Tensors stay on the device."""

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
    """Whether the epoch ends with it, or the run."""
    weight: Tensor | float = 1.0
    """What its loss is a mean over."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Of the objective, as means."""
    after: Position = BEGINNING
    validates: bool = False
    """Whether validation follows in the middle of an epoch."""
    skipped: str = ""
    """Why the weights were not moved; empty where they were."""


def steps(
    source: Source,
    forward: Forward,
    optimizer: Optimizer,
    objective: Objective,
    *,
    seed: int,
    done: Position = BEGINNING,
    regularizer: Regularizer | None = None,
    guard: Guard | None = None,
) -> Iterator[Step]:
    """Train, yielding after every step of the optimizer.

    Every step is a function of the weights, `seed` and its own number, so that a run which begins
    again at `done` goes exactly the way it would have gone.
    """
    epoch = -1
    for planned in objective.steps(source, done):
        if planned.epoch != epoch:
            epoch = planned.epoch
            forward.begin_epoch(_mix(seed, epoch))
        index = planned.after.step - 1
        begun = time.perf_counter()
        step_seed = _mix(seed + 1, index)
        forward.begin_step(step_seed)
        share = 1.0 if regularizer is None else regularizer.share(index)
        batches = planned.batches(np.random.default_rng([step_seed, COLLATION]))
        loss, weight, metrics = compute_gradients(objective, forward, batches, share)
        if regularizer is not None:
            regularizer.add(index)
        norm = optimizer.norm(index)
        skipped = objective.skips(batches)
        if guard is not None and not skipped:
            skipped = guard.fault(float(loss), float(norm))
        rate = 0.0 if skipped else optimizer.step(index, norm)[0]
        forward.after_step()
        seconds = time.perf_counter() - begun
        tokens = sum(batch.tokens for batch in batches)
        if batches[0].task:  # those of several tasks count in different units
            weight = planned.rows
        yield Step(
            index + 1, epoch + 1, loss, norm, rate, planned.rows, tokens, seconds,
            planned.ends_epoch, weight, metrics, planned.after, planned.validates, skipped,
        )  # fmt: skip


def compute_gradients(
    objective: Objective, forward: Forward, batches: Sequence[Batch], times: float = 1.0
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The mean loss over all micro-batches, its gradient (so many times) collected; what it is a
    mean over; and the objective's metrics, as means too."""
    whole = torch.stack([batch.weight for batch in batches]).sum()
    whole = torch.where(whole > 0, whole, torch.ones_like(whole))  # of rows with nothing to learn
    mean = torch.zeros_like(whole)
    metrics: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        loss = objective.loss(forward, batch)
        share = loss.total / whole
        (share if times == 1 else share * times).backward()
        forward.collect(accumulate=number > 0)
        mean = mean + share.detach()
        for name, value in loss.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + value.detach() / whole
    return mean, whole, metrics


def _mix(seed: int, number: int) -> int:
    """A seed for one step or epoch, far from its neighbours' (SplitMix64 finaliser)."""
    x = (seed * 0x9E3779B97F4A7C15 + number + 1) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) >> 2
