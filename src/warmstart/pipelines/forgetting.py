"""What the base knew: measured before and after, and held on to in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from warmstart.evaluation.forgetting import compared, fewer, statistics, unchanged
from warmstart.metrics.base import Floats
from warmstart.models.modules import LANGUAGE_MODELS
from warmstart.pipelines.prepare import Prepared
from warmstart.pipelines.pretrain.mixture import HeldOut
from warmstart.training.regularization.language_model import Reader, reader_for
from warmstart.training.regularization.regularizer import (
    Penalty,
    Regularizer,
    base_weights,
    fisher,
)
from warmstart.training.regularization.text import shipped


class Forgetting:
    """General text beside a run, through the body that is being trained.

    It finds out how the base reads, and measures it while it is still the base. `passages` are read
    before and after: the same, however many weights a method adds in between.
    """

    def __init__(self, prepared: Prepared, model: Any) -> None:
        self.prepared, self.general = prepared, prepared.general or shipped()
        self.changes = prepared.method.changes
        """See `Method.changes`."""
        head = prepared.task.head
        itself = head.predicts_itself and type(model).__name__.endswith(LANGUAGE_MODELS)
        self.writes = head.generates or itself
        """Whether the model itself is a language model."""
        task: Any = prepared.task
        self.mixes = bool(task.reads_documents)
        """Whether general text is learned along as a corpus among others (`pretrain.mixture`)."""
        self.held: HeldOut | None = None
        self.reader: Reader | None = None
        self.before: Floats | None = None
        self.fisher: dict[str, Tensor] = {}
        self.passages: Sequence[str] = ()
        known = self.changes != "nothing" and prepared.base.source != "scratch"
        measured = prepared.recipe.evaluate.forgetting and known
        if self.mixes and prepared.recipe.evaluate.forgetting and not hasattr(model, "generator"):
            held = {"test": prepared.examples["test"], **prepared.held}
            self.held = HeldOut(task, held, prepared.recipe.train.device)
            self.held.before = self.held.read(model) if known else {}
        measured = measured and not prepared.held
        if measured or prepared.recipe.forgetting.acts:
            tokenizer, writes = prepared.tokenizer, self.writes
            self.reader = reader_for(prepared.base, model, tokenizer, writes=writes)
            if measured:
                weights = sum(weight.numel() for weight in self.reader.body.parameters())
                held = self.general.held
                self.passages = held if prepared.general else fewer(held, weights)
                self.before = self.read()

    def attached(self, model: Any) -> None:
        """To be called with the method on the model, before any of its weights has moved."""
        if self.reader is None:
            return
        self.reader.join(model)
        if self.prepared.recipe.forgetting.penalty == "ewc":
            weights = base_weights(model, writes=self.writes)
            seed = self.prepared.recipe.seed
            self.fisher = fisher(self.reader, weights, self.general.learned, seed)

    @property
    def needs_vocabulary(self) -> bool:
        """Whether more of the vocabulary is trained than the data of the task hold."""
        return self.rehearsal > 0

    @property
    def rehearsal(self) -> float:
        """The share of the rows of a step that are passages of general text."""
        return 0.0 if self.mixes else self.prepared.recipe.forgetting.rehearsal

    def regularizer(self, model: Any, forward: Any) -> Regularizer | None:
        """What a step does against forgetting; to be called before any weight has moved."""
        settings = self.prepared.recipe.forgetting
        if not (self.rehearsal or settings.penalty != "none") or self.reader is None:
            return None
        self.reader.join(model)
        penalty, learned = None, list[Any]()
        if settings.penalty != "none":
            weights = base_weights(model, writes=self.writes)
            used = forward.used_rows
            sizes = [_rows(self.fisher[name], weight, used) for name, weight in weights.items()
                     if name in self.fisher]  # fmt: skip
            penalty = Penalty(list(weights.values()), settings.strength, sizes)
        if self.rehearsal:
            learned = self.reader.pieces(self.general.learned)
        return Regularizer(forward, self.reader, learned, self.rehearsal, penalty)

    def figure(self, model: Any) -> dict[str, Any] | None:
        """What was forgotten, as `evaluate.forgetting` says it; None where it was not asked for."""
        recipe, changes = self.prepared.recipe, self.prepared.method.changes
        if recipe.evaluate.forgetting and changes == "nothing":
            return unchanged()
        held = None
        if self.held is not None and (self.held.before or self.prepared.held):
            held = self.held.figure(model, recipe)
        if self.before is None or self.reader is None:
            return held
        self.reader.join(model)
        facts = compared(
            self.reader, self.before, self.read(), recipe.evaluate,
            recipe.seed, self.general.name, changes=changes, kept=recipe.forgetting.acts,
        )  # fmt: skip
        return facts if held is None else facts | {
            "sentence": f"{held['sentence']} {facts['sentence']}", "gained": held["corpora"],
        }  # fmt: skip

    def read(self) -> Floats:
        """The statistics of the held-out passages, as the body reads them now."""
        assert self.reader is not None
        return np.asarray(statistics(self.reader, self.passages))


def _rows(values: Tensor, weight: Tensor, used: Tensor | None) -> Tensor:
    """The same rows of the Fisher information as of the embedding, on the weights' device."""
    rows = values if values.shape == weight.shape or used is None else values[used]
    return rows.to(weight.device)
