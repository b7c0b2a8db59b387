"""A model in training: built from what was prepared, fitted, saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.inference.predictor import open_predictor, scorer
from warmstart.models.architectures import family_of, layers_of
from warmstart.models.forward import Forward
from warmstart.models.generation import sampler
from warmstart.models.head_layers import unwrap
from warmstart.models.heads import Head
from warmstart.models.modules import parameters_of
from warmstart.models.saving import save_model
from warmstart.objectives.base import Objective
from warmstart.pipelines.forgetting import Forgetting
from warmstart.pipelines.prepare import Prepared
from warmstart.pipelines.pretrain.mixture import PhasedSource
from warmstart.tasks.base import Task
from warmstart.training.batches import BatchSource
from warmstart.training.cached_states import cached_features, split_states
from warmstart.training.datasets import GroupRows, Rows, narrow, rows_for
from warmstart.training.frozen_features import FittedHead, fit_head
from warmstart.training.guard import check_computes
from warmstart.training.pairs import pairs_for
from warmstart.training.precision import attend_plainly, choose, device_named
from warmstart.training.progress import Progress
from warmstart.training.settings import Train
from warmstart.training.throughput import Work
from warmstart.training.trainer import Fit
from warmstart.types import Listener

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FITTED = ("train", "validation")


@dataclass
class Session:
    """The model, how it computes, its data under the ids that it computes with, and an objective
    of its own, set up."""

    prepared: Prepared
    model: PreTrainedModel
    forward: Forward
    datasets: dict[str, TokenizedDataset]
    pad_id: int
    device: torch.device
    knowledge: Forgetting | None = None
    objective: Objective = field(init=False)

    def __post_init__(self) -> None:
        self.objective = self.prepared.objective.model_copy()
        self.objective.setup(self)

    @classmethod
    def begin(cls, prepared: Prepared) -> Session:
        """Load the base, put the head on it, attach the method, choose type and device."""
        settings, seed = prepared.recipe.train, prepared.recipe.seed
        model = build_model(prepared)
        knowledge = Forgetting(prepared, model)
        model = prepared.method.attach(model, seed)
        knowledge.attached(model)
        objective: Any = prepared.objective
        if prepared.task.head.predicts_itself and (note := objective.attached(model)):
            prepared.ledger.note("head", note)
        forward, device = prepared.task.forward(model), device_named(settings.device)
        datasets, pad_id = prepared.stores, prepared.tokenizer.pad_token_id
        narrows = settings.active_vocabulary and not prepared.task.head.predicts_itself
        if narrows and not knowledge.needs_vocabulary:
            datasets, pad_id = narrow(forward, datasets, pad_id)
        dtype = choose(settings.precision, device)
        forward.prepare(dtype, device, checkpointing=settings.gradient_checkpointing)
        session = cls(prepared, model, forward, datasets, pad_id, device, knowledge)
        if prepared.task.head.predicts_itself:
            attend_plainly(unwrap(model), prepared.task.max_length, dtype, device)
        elif family_of(unwrap(model).config).note:
            rows, lengths = session.rows("train"), datasets["train"].lengths
            check_computes(forward, rows, lengths, session.head, prepared.task.part_name())
        return session

    @property
    def head(self) -> Head:
        return self.prepared.task.head

    @property
    def labels(self) -> list[str]:
        return self.prepared.labels

    @property
    def tokenizer(self) -> Any:
        return self.prepared.tokenizer

    def train_targets(self) -> np.ndarray:
        """The targets of the rows that are trained on, with repeats."""
        return self.datasets["train"].targets[self.prepared.rows]

    @property
    def mean_length(self) -> float:
        """Tokens of a row of train, on average."""
        return float(self.datasets["train"].lengths.mean())

    def reference(self, dtype: torch.dtype | None = None) -> Forward:
        """The base under this task's head as it is before training, frozen, for the same batches.

        It computes in the type of the session, unless another one is named.
        """
        prepared = self.prepared
        model = build_model(prepared)
        forward = prepared.task.forward(model.requires_grad_(True))
        if self.forward.used_rows is not None:
            forward.narrow_vocabulary(self.forward.used_rows.cpu().numpy())
        model.requires_grad_(False)
        forward.prepare(dtype or self.forward.dtype, self.device, checkpointing=False)
        forward.training = False
        return forward

    def reward_model(self, folder: Path) -> Callable[..., list[float]]:
        """A saved model's number for each of several prompts and their answers. Raises `RunError`
        where it gives none."""
        return scorer(open_predictor(folder))

    def opened(self, folder: Path) -> Any:
        """A saved model with its task, to be a teacher."""
        return open_predictor(folder)

    def fit(
        self, folder: Path, listeners: list[Listener], *, resume: bool
    ) -> tuple[Progress, float]:
        """Train; returns where it ended, and the seconds spent on cached states (or 0)."""
        if self.in_two_steps:
            return self._fit_in_two_steps(folder, listeners, resume=resume), 0.0
        method, begun = self.prepared.method, time.perf_counter()
        rows: dict[str, Any] = {name: self.rows(name) for name in FITTED}
        kept = all(own.cacheable for own in rows.values())
        if kept and method.caches_features and self.forward.caches_features:
            with cached_features(rows, self.forward, folder / "states") as cached:
                seconds = time.perf_counter() - begun
                fit = self.fitting(folder, self.sources(cached), listeners)
                return fit.run(resume=resume), seconds
        blocks = method.cut(self.model) if kept and self.head.gives_logits else 0
        keep = method.keeps_states
        with split_states(rows, self.forward, blocks, folder / "hidden", keep=keep) as above:
            seconds = time.perf_counter() - begun if above and keep else 0.0
            fit = self.fitting(folder, self.sources(above or rows), listeners)
            return fit.run(resume=resume), seconds

    def _fit_in_two_steps(
        self, folder: Path, listeners: list[Listener], *, resume: bool
    ) -> Progress:
        """Train the body by contrast for all its epochs; the last weights are kept, `set_head` does
        the rest.

        All passes are one epoch, and validation follows at the end: so few rows choose nothing.
        """
        train, seed = self.source("train"), self.prepared.recipe.seed
        length = train.length()
        settings = self.prepared.recipe.train.model_copy(
            update={"epochs": None, "tokens": None, "max_steps": length.steps, "keep": "last",
                    "patience": 0},
        )  # fmt: skip
        validation = FittedHead(
            self.rows("validation"), self.objective, settings, seed,
            fit=self.set_head, answering=partial(self.rows, "validation", last=True),
        )  # fmt: skip
        train.settings, train.passes = settings, length.epochs
        sources = {"train": train, "validation": validation}
        return self.fitting(folder, sources, listeners, settings).run(resume=resume)

    def set_head(self) -> None:
        """Fit the head's last layer to the training rows; from here on the model gives logits."""
        task: Any = self.prepared.task
        rows, targets = self.rows("train", last=True), self.datasets["train"].targets
        fit_head(self.forward, rows, targets, len(self.labels), task.head_strength)

    def predict(self) -> dict[str, Any]:
        """The outputs for the test and the validation split, in float32."""
        self.forward.full_precision()
        if self.in_two_steps:
            self.set_head()
        splits = ("test",) if self.head.predicts_itself else ("test", "validation")
        outputs = {name: self.rows(name, last=True).predict(self.forward) for name in splits}
        if self.head.gives_vectors and self.prepared.recipe.evaluate.baselines:
            untuned = self.reference(torch.float32)
            outputs["untuned"] = self.rows("test", last=True).predict(untuned)
        return outputs

    def answers(self) -> dict[str, Any]:
        """See `predict`; the task is settled by the trained model, and then by what it gives."""
        self._settle(self.prepared.task.fold_into_weights(self.model))
        outputs = self.predict()
        outputs |= self.objective.judged(self, outputs)
        self._settle(self.prepared.task.fit_thresholds(outputs, self.prepared.examples))
        return outputs

    def _settle(self, task: Task) -> None:
        recipe = self.prepared.recipe.model_copy(update={"task": task})
        self.prepared = replace(self.prepared, recipe=recipe)

    def save(self, folder: Path) -> None:
        """Write the whole vocabulary, the weights and the tokenizer. Raises `RunError`."""
        prepared = self.prepared
        self.forward.widen_vocabulary()
        for name, helper in self.objective.detach(self.model).items():
            save_model(helper, prepared.tokenizer, folder.parent / name)
        if not self.head.predicts_itself:  # a base that went on reads as far as before
            prepared.tokenizer.model_max_length = prepared.task.max_length
        notes = {"task": prepared.task.to_metadata(), "head": self.head.name}
        notes["data"] = prepared.reading
        prepared.method.save(self.model, prepared.tokenizer, folder, prepared.base, notes)
        prepared.task.write_extras(folder)

    def forgetting(self) -> dict[str, Any] | None:
        """What was forgotten of general text; to be asked when the model has been saved."""
        return self.knowledge.figure(self.model) if self.knowledge else None

    def size(self) -> dict[str, int]:
        """Parameters of the whole model, and those that were trained."""
        return parameters_of(self.model)

    @property
    def in_two_steps(self) -> bool:
        """Whether the body is trained by contrast, and the head fitted afterwards."""
        contrastive = self.prepared.objective.part_name() == "contrastive"
        return contrastive and self.head.single_label

    def rows(self, name: str, *, last: bool = False) -> Rows:
        """One split as the head needs it; `last`: for the final answers."""
        dataset, settings = self.datasets[name], self.prepared.recipe.train
        grouped = self.in_two_steps and not last
        if grouped or self.head.gives_vectors:
            return GroupRows(dataset, self.pad_id, self.device, settings.micro_batch_tokens)
        if pairs := pairs_for(self.head, dataset, self.forward, self.pad_id, self.objective):
            return pairs
        if self.head.predicts_itself:
            return rows_for(self.head, dataset, self.forward, self.pad_id, objective=self.objective)
        if not self.head.generates:
            return rows_for(self.head, dataset, self.forward, self.pad_id)
        tried: int = getattr(self.prepared.task, "validation_texts", 0)
        shown = getattr(self.prepared.task, "test_texts", None)
        counts = {"test": shown} if last else {"validation": tried}
        writes = counts.get(name, 0)
        return rows_for(self.head, dataset, self.forward, self.pad_id, writes=writes)

    def source(self, name: str, rows: Rows | None = None) -> BatchSource:
        """The batches of one split, or of other rows in its place."""
        recipe, own = self.prepared.recipe, self.rows(name) if rows is None else rows
        learned = (self.prepared.rows, self.prepared.late) if name == "train" else (None, None)
        return PhasedSource(own, self.objective, recipe.train, recipe.seed, *learned)

    def sources(self, rows: Mapping[str, Rows]) -> dict[str, BatchSource]:
        """The batches of several splits, each of the rows that stand for it."""
        return {name: self.source(name, own) for name, own in rows.items()}

    def fitting(
        self,
        folder: Path,
        sources: Mapping[str, BatchSource],
        listeners: list[Listener],
        settings: Train | None = None,
    ) -> Fit:
        """A training run, ready to begin; `settings` in the place of the recipe's."""
        prepared, task, knowledge = self.prepared, self.prepared.task, self.knowledge
        aim: Any = self.objective
        groups, writes = prepared.method.param_groups(self.model), None
        if self.head.predicts_itself:
            groups += aim.param_groups(self.model, sources["train"].length().steps)
            writes = sampler(self.forward, self.tokenizer, task.max_length, prepared.recipe.seed)
        return Fit(
            model=self.model,
            forward=self.forward,
            train=sources["train"],
            validation=sources["validation"],
            objective=self.objective,
            score=lambda outputs: {
                **task.score(outputs, prepared.examples["validation"]),
                **self.objective.figures(outputs),
            },
            main=task.epoch_score,
            span=task.score_span,
            settings=settings or prepared.recipe.train,
            seed=prepared.recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=[p for block in layers_of(unwrap(self.model)) for p in block.parameters()],
            param_groups=groups,
            regularizer=knowledge.regularizer(self.model, self.forward) if knowledge else None,
            sample=writes,
            work=self.work,
        )

    @cached_property
    def work(self) -> Work | None:
        """What a language model computes for a token, and the machine's peak."""
        if not self.head.predicts_itself:
            return None
        return Work.of(self.model, self.forward.dtype, self.device)


def build_model(prepared: Prepared) -> PreTrainedModel:
    """The base under the head that the objective trains."""
    task, seed = prepared.task, prepared.recipe.seed
    return prepared.objective.build_model(task, prepared.base, prepared.labels, seed)
