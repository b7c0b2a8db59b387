"""What the base knew: measured before and after, and held on to in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warmstart.evaluation.forgetting import compared, fewer, statistics, unchanged
from warmstart.training.regularization.language_model import Reader, reader_for
from warmstart.training.regularization.regularizer import (
    Penalty,
    Regularizer,
    base_weights,
    fisher,
)
from warmstart.training.regularization.text import General, shipped

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.metrics.base import Floats
    from warmstart.pipelines.prepare import Prepared


@dataclass
class Forgetting:
    """General text beside a run, through the body that is being trained."""

    prepared: Prepared
    general: General
    reader: Reader | None = None
    before: Floats | None = None
    fisher: dict[str, Tensor] | None = None
    passages: Sequence[str] = ()
    """Read before and after: the same, however many weights a method adds in between."""

    @classmethod
    def begin(cls, prepared: Prepared, model: Any) -> Forgetting:
        """Find out how this base reads, and measure it while it is still the base."""
        recipe, writes = prepared.recipe, prepared.task.head.generates
        knowledge = cls(prepared, prepared.general or shipped())
        measured = recipe.evaluate.forgetting and prepared.method.changes != "nothing"
        if not (measured or recipe.forgetting.acts):
            return knowledge
        reader = reader_for(prepared.base, model, prepared.tokenizer, writes=writes)
        knowledge.reader = reader
        if measured:
            weights = sum(weight.numel() for weight in reader.body.parameters())
            held = knowledge.general.held
            knowledge.passages = held if prepared.general else fewer(held, weights)
            knowledge.before = statistics(reader, knowledge.passages)
        return knowledge

    def attached(self, model: Any) -> None:
        """To be called with the method on the model, before any of its weights has moved."""
        if self.reader is None:
            return
        self.reader.join(model)
        recipe = self.prepared.recipe
        if recipe.forgetting.penalty == "ewc":
            weights = base_weights(model, writes=self.prepared.task.head.generates)
            self.fisher = fisher(self.reader, weights, self.general.learned, recipe.seed)

    @property
    def needs_vocabulary(self) -> bool:
        """Whether more of the vocabulary is trained than the data of the task hold."""
        return self.prepared.recipe.forgetting.rehearsal > 0

    def regularizer(self, model: Any, forward: Any) -> Regularizer | None:
        """What a step does against forgetting; to be called before any weight has moved."""
        settings = self.prepared.recipe.forgetting
        if not settings.acts or self.reader is None:
            return None
        self.reader.join(model)
        penalty, learned = None, list[Any]()
        if settings.penalty != "none":
            weights = base_weights(model, writes=self.prepared.task.head.generates)
            sizes = [
                _rows(self.fisher[name], weight, forward.used_rows)
                for name, weight in weights.items()
                if self.fisher and name in self.fisher
            ]
            penalty = Penalty(list(weights.values()), settings.strength, sizes)
        if settings.rehearsal:
            learned = self.reader.pieces(self.general.learned)
        return Regularizer(forward, self.reader, learned, settings.rehearsal, penalty)

    def figure(self, model: Any) -> dict[str, Any] | None:
        """What was forgotten, as `evaluate.forgetting` says it; None where it was not asked for."""
        recipe, changes = self.prepared.recipe, self.prepared.method.changes
        if recipe.evaluate.forgetting and changes == "nothing":
            return unchanged()
        if self.before is None or self.reader is None:
            return None
        self.reader.join(model)
        return compared(
            self.reader, self.before, statistics(self.reader, self.passages), recipe.evaluate,
            recipe.seed, self.general.name, changes=changes, kept=recipe.forgetting.acts,
        )  # fmt: skip


def _rows(values: Tensor, weight: Tensor, used: Tensor | None) -> Tensor:
    """The same rows of the Fisher information as of the embedding, on the weights' device."""
    rows = values if values.shape == weight.shape or used is None else values[used]
    return rows.to(weight.device)
