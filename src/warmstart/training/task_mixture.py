"""Several tasks in one training run: every step is a batch of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
from pydantic import PrivateAttr

from warmstart.data.sampling import order, turns
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.objectives.base import Loss, Objective
from warmstart.training.batches import BatchSource, EvalOutput
from warmstart.training.settings import Train


class SharedForward(Forward):
    """How models with a shared encoder are computed: a batch by the head of its task."""

    def __init__(self, by_task: Mapping[str, Forward]) -> None:
        self.by_task = dict(by_task)
        first = next(iter(self.by_task.values()))
        self.model, self.dtype, self.device = first.model, first.dtype, first.device

    def forward(self, batch: Batch) -> Outputs:
        return self.by_task[batch.task].forward(batch)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        with ExitStack() as stack:
            for forward in self.by_task.values():
                stack.enter_context(forward.evaluating())
            yield

    def begin_epoch(self, seed: int) -> None:
        for forward in self.by_task.values():
            forward.begin_epoch(seed)

    def begin_step(self, seed: int) -> None:
        for forward in self.by_task.values():
            forward.begin_step(seed)

    def collect(self, *, accumulate: bool) -> None:
        for forward in self.by_task.values():
            forward.collect(accumulate=accumulate)

    def after_step(self) -> None:
        for forward in self.by_task.values():
            forward.after_step()

    def refresh(self) -> None:
        for forward in self.by_task.values():
            forward.refresh()


class MixedObjective(Objective):
    """The objective of a batch's own task; its loss counts as often as the task's weight says."""

    _by_task: dict[str, Objective] = PrivateAttr(default_factory=dict[str, Objective])
    _weights: dict[str, float] = PrivateAttr(default_factory=dict[str, float])

    @classmethod
    def of(cls, objectives: Mapping[str, Objective], weights: Mapping[str, float]) -> Objective:
        """Objectives that have been set up, and the weight of each task."""
        made = cls()
        made._by_task, made._weights = dict(objectives), dict(weights)
        return made

    def loss(self, model: Forward, batch: Batch) -> Loss:
        loss, weight = self._by_task[batch.task].loss(model, batch), self._weights[batch.task]
        metrics = {f"{batch.task}:{name}": value for name, value in loss.metrics.items()}
        return replace(loss, total=loss.total if weight == 1 else loss.total * weight,
                       metrics=metrics)  # fmt: skip


class TaskMixture(BatchSource):
    """Steps of one task each. Rows are counted through from the first task to the last.

    Args:
        sources: of the tasks, whose objectives make the batches.
        shares: of the steps of an epoch, by task; see `data.sampling`. In an epoch are as many
            steps as would pass once over every task's rows.
        scored: the tasks whose validation scores count; the others help, and have no answers.
    """

    def __init__(
        self,
        sources: Mapping[str, BatchSource],
        shares: Mapping[str, float],
        scored: tuple[str, ...],
        settings: Train,
        seed: int,
    ) -> None:
        self.sources, self.shares, self.scored = dict(sources), dict(shares), scored
        self.settings, self.seed, self.passes, self._endless = settings, seed, 1, False
        self._length = None
        ends = np.cumsum([len(source) for source in self.sources.values()])
        self._starts = dict(zip(self.sources, [0, *ends[:-1].tolist()], strict=True))
        self._sizes: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return sum(map(len, self.sources.values()))

    @property
    def unit_count(self) -> int:
        """Rows that a mean of scores over so many equally sure ones would have."""
        counts = [1 / max(len(self.sources[name]), 1) for name in self.scored]
        return round(len(counts) ** 2 / sum(counts))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch; a task goes on where the epoch before left it."""
        counts = self.counts()
        streams = {
            name: iter(self._stream_of(name, epoch * count, count))
            for name, count in counts.items()
        }
        return [next(streams[name]) for name in order(counts, self.seed, epoch)]

    def counts(self) -> dict[str, int]:
        """The steps of an epoch that each task has."""
        return turns(self.shares, sum(self._size(name, 0) for name in self.sources))

    def batches(self, rows: np.ndarray, rng: np.random.Generator) -> list[Batch]:
        name = self._task_of(rows)
        own = self.sources[name].batches(rows - self._starts[name], rng)
        return [replace(batch, task=name) for batch in own]

    def tokens_of(self, rows: np.ndarray) -> int:
        name = self._task_of(rows)
        return self.sources[name].tokens_of(rows - self._starts[name])

    def tokens_in_epoch(self, epoch: int) -> int:
        return sum(map(self.tokens_of, self.plan(epoch)))

    def evaluate(self, forward: Forward, *, answers: bool = True) -> EvalOutput:
        """Task → what its source gives; the loss is the mean of those that are scored."""
        assert isinstance(forward, SharedForward)
        outputs = {
            name: source.evaluate(forward.by_task[name], answers=name in self.scored)
            for name, source in self.sources.items()
        }
        loss = sum(outputs[name].figures["loss"] for name in self.scored) / len(self.scored)
        return EvalOutput(outputs, {"loss": loss})

    def _task_of(self, rows: np.ndarray) -> str:
        return next(n for n in reversed(self._starts) if self._starts[n] <= rows[0])

    def steps_in(self, epoch: int) -> int:
        """As many as pass once over every task's rows."""
        return sum(self.counts().values())

    def _stream_of(self, name: str, start: int, count: int) -> list[np.ndarray]:
        """The steps `start` to `start + count` of one task, pass after pass over its rows."""
        steps: list[np.ndarray] = []
        passed = number = 0
        while len(steps) < count:
            size = self._size(name, number)
            first = max(start - passed, 0)
            if first < size:
                steps += self.sources[name].plan(number)[first : first + count - len(steps)]
            passed, number = passed + size, number + 1
        return [rows + self._starts[name] for rows in steps]

    def _size(self, name: str, number: int) -> int:
        """The steps of one pass over a task's rows."""
        key = (name, number)
        if key not in self._sizes:
            self._sizes[key] = self.sources[name].steps_in(number)
        return self._sizes[key]
