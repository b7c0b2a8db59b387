"""Where batches come from: which rows make a step, how long a run is, and where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from warmstart.errors import RecipeError
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.objectives.base import Objective, PlannedStep, Position
from warmstart.training.datasets import EVALUATION, Rows
from warmstart.training.settings import Train


@dataclass(frozen=True, slots=True)
class Length:
    """How long a run is.

    Args:
        steps: in all.
        starts: the step with which each pass over the rows begins.
    """

    steps: int
    starts: tuple[int, ...] = (0,)

    @property
    def epochs(self) -> int:
        """Passes over the rows, the last one perhaps not whole."""
        return len(self.starts)


@dataclass(frozen=True, slots=True)
class EvalOutput:
    """What a pass over a split gave: the outputs of its rows, and as figures the objective's loss
    and metrics, means over the summed weight; none of rows that weigh nothing."""

    outputs: Any
    figures: dict[str, float]


class BatchSource:
    """Rows, in steps of the optimizer.

    Args:
        dataset: the rows, which know how they are made into a batch.
        objective: what makes the batches that are trained on.
        settings: how large a step is, and how long the run: one of epochs, max_steps and tokens.
        seed: decides with the number of a pass which rows go together.
        rows: the rows to train on, with repeats where a class is oversampled; None: all.
        passes: so many passes over the rows are one epoch.
    """

    def __init__(
        self,
        dataset: Rows,
        objective: Objective,
        settings: Train,
        seed: int = 0,
        *,
        rows: np.ndarray | None = None,
        passes: int = 1,
    ) -> None:
        self.dataset, self.objective, self.settings = dataset, objective, settings
        self.seed, self.passes = seed, passes
        self._endless = dataset.endless
        self._length: tuple[Train, Length] | None = None
        self.rows = np.arange(len(dataset)) if rows is None and not dataset.endless else rows

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def batch_size(self) -> int:
        """Rows in a step, unless `batch_tokens` says its size."""
        return self.settings.batch_size or 1

    @property
    def unit_count(self) -> int:
        """How many independent answers a score over all rows is a mean of."""
        return self.dataset.unit_count

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch, counted from 0."""
        assert self.rows is not None
        size, tokens = self.batch_size, self.settings.batch_tokens
        numbers = range(epoch * self.passes, (epoch + 1) * self.passes)
        plans = (self.dataset.plan(self.rows, size, tokens, (self.seed, n)) for n in numbers)
        return [rows for plan in plans for rows in plan]

    def batches(self, rows: np.ndarray, rng: np.random.Generator) -> list[Batch]:
        """The micro-batches of one step."""
        parts = self.dataset.micro(rows, self.settings.micro_batch_tokens)
        return [self.objective.collate(self.dataset, part, rng) for part in parts]

    def length(self) -> Length:
        """How long the run is. Raises `RecipeError` where rows without end are to be read for so
        many epochs or tokens."""
        if self._length is None or self._length[0] is not self.settings:
            self._length = self.settings, self._measure(self.settings)
        return self._length[1]

    def _measure(self, settings: Train) -> Length:
        if self._endless:
            if settings.max_steps is None:
                raise RecipeError("the rows have no end: give train.max_steps")
            return Length(settings.max_steps)
        if settings.tokens is not None:
            return self._length_in_tokens(settings.tokens)
        starts, steps, epochs = list[int](), 0, settings.epochs or 1
        while (len(starts) < epochs) if settings.max_steps is None else steps < settings.max_steps:
            size = self.steps_in(len(starts))
            starts.append(steps)
            steps += size
            if not size:
                break
        return Length(min(steps, settings.max_steps or steps), tuple(starts))

    def _length_in_tokens(self, tokens: int) -> Length:
        """Until so many tokens have been computed, padding not counted; at least one step."""
        starts, steps, left = list[int](), 0, tokens
        while left > 0 and (whole := self.tokens_in_epoch(len(starts))):
            starts.append(steps)
            if left >= whole:
                steps += self.steps_in(len(starts) - 1)
            else:
                sizes = np.cumsum([self.tokens_of(rows) for rows in self.plan(len(starts) - 1)])
                steps += int(np.searchsorted(sizes, left)) + 1
            left -= whole
        return Length(steps, tuple(starts))

    def tokens_of(self, rows: np.ndarray) -> int:
        """Tokens of some rows, padding not counted."""
        return int(self.dataset.sizes[rows].sum())

    def tokens_in_epoch(self, epoch: int) -> int:
        """Tokens of an epoch, padding not counted."""
        assert self.rows is not None
        return self.passes * self.tokens_of(self.rows)

    def steps_in(self, epoch: int) -> int:
        """How many steps an epoch has."""
        assert self.rows is not None
        size, tokens = self.batch_size, self.settings.batch_tokens
        count = self.dataset.steps_of(len(self.rows), size, tokens)
        return len(self.plan(epoch)) if count is None else self.passes * count

    def steps(self, done: Position) -> Iterator[PlannedStep]:
        """The steps from a position on; those before it are not planned again."""
        last = self.length().steps
        step, epoch, within = done.step, done.epoch, done.within
        for number in range(step, last) if self._endless else ():  # read once, in their order
            rows = np.arange(number * self.batch_size, (number + 1) * self.batch_size)
            step = number + 1
            after = Position(step, 0, step)
            batches, ends = partial(self.batches, rows), step == last
            yield PlannedStep(batches, len(rows), 0, ends, after, self._validates(step))
        while step < last:
            plan = self.plan(epoch)
            for rows in plan[within:]:
                step, within = step + 1, within + 1
                over = within == len(plan)
                after = Position(step, epoch + 1, 0) if over else Position(step, epoch, within)
                batches = partial(self.batches, rows)
                ends, validates = over or step == last, self._validates(step)
                yield PlannedStep(batches, len(rows), epoch, ends, after, validates)
                if step == last:
                    return
            epoch, within = epoch + 1, 0

    def _validates(self, step: int) -> bool:
        every = self.settings.validate_every
        return bool(every) and step % (every or 1) == 0

    def evaluate(self, forward: Forward, *, answers: bool = True) -> EvalOutput:
        """The loss of all rows, always under the same random numbers, and the outputs for them.

        The outputs are those that the loss was computed from, where it was computed from these.
        """
        weight, sums = 0.0, {"loss": 0.0}

        def computed() -> Iterator[tuple[Batch, Outputs]]:
            nonlocal weight
            for rows in self.dataset.ordered(self.batch_size):
                rng = np.random.default_rng(EVALUATION)
                batch = self.objective.collate(self.dataset, rows, rng)
                loss = self.objective.loss(forward, batch)
                weight += float(loss.weight)
                for name, value in {"loss": loss.total, **loss.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                if answers:
                    yield batch, forward.forward(batch)

        with forward.evaluating():
            outputs = self.dataset.gather(forward, computed()) if answers else [*computed()]
        return EvalOutput(outputs, {n: v / weight for n, v in sums.items()} if weight else {})
