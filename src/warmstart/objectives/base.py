"""What an objective is: it makes batches of rows, and says what is lost on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import PrivateAttr

from warmstart.part import Part

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward
    from warmstart.models.heads import Head
    from warmstart.types import Listener


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a batch.

    Args:
        total: a sum over what the batch counts; divided by the summed weights of all micro-batches
            it is the loss of the step.
        weight: what the batch counts, as in `Batch.weight`.
        metrics: further sums, which are divided and shown as the total is.
    """

    total: Tensor
    weight: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands in its data: enough to go on there without reading what came before.

    Args:
        step: steps done so far.
        epoch: passes over the rows that are over.
        within: steps done in the pass that is not over.
    """

    step: int = 0
    epoch: int = 0
    within: int = 0


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step that is to be made.

    Args:
        batches: makes its micro-batches with random numbers that are the step's own.
        rows: how many rows it has.
        epoch: the pass over the rows that it belongs to, from 0.
        ends_epoch: whether it is the last of its pass, or of the run: then validation follows.
        after: where the run stands when it is done.
        validates: whether validation follows although no pass ends.
    """

    batches: Callable[[np.random.Generator], list[Batch]]
    rows: int
    epoch: int
    ends_epoch: bool
    after: Position
    validates: bool = False


class Dataset(Protocol):
    """Rows that know how a model of their task reads them."""

    def __len__(self) -> int: ...
    def collate(self, rows: np.ndarray) -> Batch:
        """The rows of these numbers as the task's own batch, whose weight is their number."""
        ...


class Source(Protocol):
    """What plans the steps of a run; see `training.batches.BatchSource`."""

    settings: Any

    def steps(self, done: Position) -> Iterator[PlannedStep]: ...


class Setting(Protocol):
    """What an objective can use before the first step; see `pipelines.session.Session`."""

    model: Any
    forward: Forward
    device: torch.device
    prepared: Any
    """What was known before a weight moved; see `pipelines.prepare.Prepared`."""

    @property
    def head(self) -> Head: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def tokenizer(self) -> Any: ...
    def train_targets(self) -> np.ndarray:
        """The targets of the rows that are trained on, with repeats."""
        ...

    @property
    def mean_length(self) -> float:
        """Tokens of a row of train, on average."""
        ...

    def reference(self) -> Forward:
        """The model as it is before training, frozen; it reads the same batches."""
        ...

    def reward_model(self, folder: Path) -> Callable[..., Sequence[float]]:
        """A saved model's number for each of several prompts and their answers."""
        ...

    def opened(self, folder: Path) -> Any:
        """A saved model with its task, as `inference.predictor.Predictor`."""
        ...


class Objective(Part):
    """Why the weights move.

    A session sets up a copy of the recipe's objective, so that what `setup` keeps (in private
    attributes) belongs to one run.
    """

    kind: ClassVar[str] = "objective"
    heads: ClassVar[frozenset[str]]
    """The names of the heads that it trains; see `models.heads`."""
    tasks: ClassVar[frozenset[str] | None] = None
    """The tasks that it trains; None: all with such a head but those that have objectives of their
    own."""
    aligns: ClassVar[bool] = False
    """Whether it brings a model near to what people prefer, as `align` does, in its one task."""

    _listeners: Sequence[Listener] = PrivateAttr(default=())

    def listen(self, listeners: Sequence[Listener]) -> None:
        """From here on these are told what `tell` says."""
        self._listeners = listeners

    def tell(self, text: str) -> None:
        """Let a person know at once."""
        for listener in self._listeners:
            listener.note(text)

    def build_model(self, task: Any, base: Any, labels: Sequence[str], seed: int) -> Any:
        """The base under the head that is trained: the task's own, unless said otherwise."""
        return task.build_model(base, labels, seed)

    def setup(self, session: Setting) -> None:
        """Get ready: a reference model, a teacher, weights of the classes."""

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The batch of some rows. Masking and pairing belong here, with numbers from `rng`, which
        is a function of the seed and the step."""
        batch = dataset.collate(rows)
        return replace(batch, weight=self.weigh(batch))

    def weigh(self, batch: Batch) -> Tensor:
        """What a batch counts, float32; it must be known before its loss. Unless said otherwise:
        its rows."""
        return batch.weight

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The loss of the model on a batch, in training and in validation."""
        raise NotImplementedError

    def steps(self, source: Source, done: Position) -> Iterator[PlannedStep]:
        """The steps of the run that are still to be made; unless said otherwise, passes over the
        rows."""
        return source.steps(done)

    def skips(self, batches: Sequence[Batch]) -> str:
        """Why a step of these batches is not made; empty where it is."""
        return "" if any(batch.weight > 0 for batch in batches) else "its rows have no target"

    def state(self) -> Mapping[str, Tensor]:
        """What it keeps from step to step, for a checkpoint."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""

    def detach(self, model: Any) -> Mapping[str, Any]:
        """Take off the model what only training needed; by name what is worth keeping of it."""
        return {}

    def figures(self, outputs: Any) -> Mapping[str, float]:
        """Further figures of the outputs for the validation split."""
        return {}

    def judged(self, session: Any, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What else the evaluation is to see beside the final outputs, by names of its own."""
        return {}
