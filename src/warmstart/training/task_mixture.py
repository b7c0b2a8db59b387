"""Several tasks in one training run: every step is a batch of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from warmstart.data.sampling import order, turns
from warmstart.models.forward import Compute
from warmstart.training.batches import Batch, Feed


class Computes(Compute):
    """Computes of models with one body, as the loop and the fit see them: as one."""

    def __init__(self, each: Mapping[str, Compute]) -> None:
        self.each = dict(each)
        first = next(iter(self.each.values()))
        self.model, self.dtype, self.device = first.model, first.dtype, first.device
        self.step_seed = 0

    def begin_epoch(self, seed: int) -> None:
        for compute in self.each.values():
            compute.begin_epoch(seed)

    def begin_step(self, seed: int) -> None:
        self.step_seed = seed
        for compute in self.each.values():
            compute.begin_step(seed)

    def collect(self, *, accumulate: bool) -> None:
        for compute in self.each.values():
            compute.collect(accumulate=accumulate)

    def after_step(self) -> None:
        for compute in self.each.values():
            compute.after_step()

    def half_done(self) -> None:
        for compute in self.each.values():
            compute.half_done()


class TogetherFeed:
    """Batches of one task each. Rows are counted through from the first task to the last.

    Args:
        shares: of the steps of an epoch, by task; see `data.mixture`. In an epoch are as many steps
            as would pass once over every task's rows.
        judged: the tasks whose validation scores count; the others help.
    """

    def __init__(
        self, feeds: Mapping[str, Feed], shares: Mapping[str, float], judged: tuple[str, ...]
    ) -> None:
        self.feeds, self.shares = dict(feeds), dict(shares)
        self.current = next(iter(self.feeds))
        ends = np.cumsum([len(feed) for feed in self.feeds.values()])
        self._starts = dict(zip(self.feeds, [0, *ends[:-1].tolist()], strict=True))
        counts = [1 / max(len(self.feeds[name]), 1) for name in judged]
        self.judged = round(len(counts) ** 2 / sum(counts))
        """Rows that a mean of shares over so many equally sure ones would have."""
        self._sizes: dict[tuple[str, int, int], int] = {}

    def __len__(self) -> int:
        return sum(map(len, self.feeds.values()))

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch; a task goes on where the epoch before left it."""
        counts = self.counts(seed)
        streams = {
            name: iter(self._stream(name, seed, epoch * count, count))
            for name, count in counts.items()
        }
        return [next(streams[name]) for name in order(counts, seed, epoch)]

    def counts(self, seed: int) -> dict[str, int]:
        """The steps of an epoch that each task has."""
        steps = sum(self._size(name, seed, 0) for name in self.feeds)
        return turns(self.shares, steps)

    def batches(self, rows: np.ndarray) -> list[Batch]:
        """The micro-batches of one step; from here on its task is the current one."""
        self.current = next(n for n in reversed(self._starts) if self._starts[n] <= rows[0])
        return self.feeds[self.current].batches(rows - self._starts[self.current])

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        """What the current task's head gives."""
        return self.feeds[self.current].logits(batch, training=training)

    def predict(self) -> Any:
        """Task → what its feed gives for its whole split."""
        return {name: feed.predict() for name, feed in self.feeds.items()}

    def _stream(self, name: str, seed: int, start: int, count: int) -> list[np.ndarray]:
        """The steps `start` to `start + count` of one task, pass after pass over its rows."""
        found: list[np.ndarray] = []
        passed = number = 0
        while len(found) < count:
            size = self._size(name, seed, number)
            first = max(start - passed, 0)
            if first < size:
                steps = self.feeds[name].epoch(seed, number)
                found += steps[first : first + count - len(found)]
            passed, number = passed + size, number + 1
        return [rows + self._starts[name] for rows in found]

    def _size(self, name: str, seed: int, number: int) -> int:
        """The steps of one pass over a task's rows."""
        key = (name, seed, number)
        if key not in self._sizes:
            self._sizes[key] = len(self.feeds[name].epoch(seed, number))
        return self._sizes[key]
