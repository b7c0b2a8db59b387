"""Several tasks over one body in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.models.architectures import layers_of
from warmstart.models.fast.forward import forwards_for
from warmstart.models.forward import Forward
from warmstart.models.head_layers import unwrap
from warmstart.models.loading import load_masked, share_body
from warmstart.objectives.base import Objective
from warmstart.objectives.mlm import MLM
from warmstart.pipelines.multitask.prepare import PreparedTasks
from warmstart.pipelines.session import Session
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import TokenRows, narrow
from warmstart.training.precision import choose, device_named
from warmstart.training.progress import Progress
from warmstart.training.task_mixture import MixedObjective, SharedForward, TaskMixture
from warmstart.training.trainer import Fit
from warmstart.types import Listener


@dataclass
class TasksSession:
    """A session of each task, whose models have one body, and what guesses masked words; as one
    session (see `pipelines.session`)."""

    prepared: PreparedTasks
    each: dict[str, Session]
    masked: dict[str, Forward]
    together: SharedForward

    @classmethod
    def begin(cls, prepared: PreparedTasks) -> TasksSession:
        """Load the base under every head, attach the method, make the bodies one."""
        settings, seed = prepared.recipe.train, prepared.recipe.seed
        models = {
            name: one.method.attach(one.task.build_model(one.base, one.labels, seed), seed)
            for name, one in prepared.each.items()
        }
        guessing = {name: load_masked(prepared.base, seed) for name in prepared.texts}
        share_body([*models.values(), *guessing.values()])
        forwards = dict(
            zip(models, forwards_for([*models.values()], fast=not guessing), strict=True)
        )
        masked = {name: Forward(model) for name, model in guessing.items()}
        stores, pad_id = _narrowed(prepared, next(iter(forwards.values())))
        device = device_named(settings.device)
        dtype = choose(settings.precision, device)
        for forward in [*forwards.values(), *masked.values()]:
            forward.prepare(dtype, device, checkpointing=settings.gradient_checkpointing)
        each = {
            name: Session(one, models[name], forwards[name], stores[name], pad_id, device)
            for name, one in prepared.each.items()
        }
        return cls(prepared, each, masked, SharedForward({**forwards, **masked}))

    @property
    def device(self) -> torch.device:
        return self.together.device

    @property
    def first(self) -> Session:
        return next(iter(self.each.values()))

    def fit(
        self, folder: Path, listeners: list[Listener], *, resume: bool
    ) -> tuple[Progress, float]:
        """Train; returns where it ended, and 0 seconds spent on cached states."""
        return self.fitting(folder, listeners).run(resume=resume), 0.0

    def fitting(self, folder: Path, listeners: list[Listener]) -> Fit:
        """The training run, ready to begin."""
        prepared, recipe, task = self.prepared, self.prepared.recipe, self.prepared.task
        objectives: dict[str, Objective] = {n: one.objective for n, one in self.each.items()}
        for name, forward in self.masked.items():
            objectives[name] = MLM(share=prepared.texts[name].share)
            objectives[name].setup(replace(self.first, model=forward.model))
        train, validation = (
            TaskMixture(
                {name: self._source(name, split, objectives[name]) for name in task.tasks},
                prepared.shares, tuple(self.each), recipe.train, recipe.seed,
            )
            for split in ("train", "validation")
        )  # fmt: skip
        models: dict[str, Any] = {
            name: one.model for name, one in {**self.each, **self.masked}.items()
        }
        spans = [each.task.score_span for each in prepared.each.values()]
        blocks = [block for model in models.values() for block in layers_of(unwrap(model))]
        return Fit(
            model=nn.ModuleDict(models),
            forward=self.together,
            train=train,
            validation=validation,
            objective=MixedObjective.of(objectives, {n: task.weight_of(n) for n in task.tasks}),
            score=self.score,
            main="mean",
            span=(sum(low / high for low, high in spans) / len(spans), 1.0),
            settings=recipe.train,
            seed=recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=list({id(p): p for block in blocks for p in block.parameters()}.values()),
            param_groups=[
                group
                for one in self.each.values()
                for group in one.prepared.method.param_groups(one.model)
            ],
        )

    def score(self, outputs: Any) -> dict[str, float]:
        """The mean of the tasks' main scores, and the score and the loss of each."""
        scores: dict[str, float] = {}
        for name, one in self.each.items():
            task, examples = one.prepared.task, one.prepared.examples["validation"]
            scores[name] = task.score(outputs[name].outputs, examples)[task.epoch_score]
        spans = {name: own.task.score_span for name, own in self.prepared.each.items()}
        mean = sum(score / spans[name][1] for name, score in scores.items()) / len(scores)
        scores |= {name: outputs[name].figures["accuracy"] for name in self.masked}
        figures = {f"score:{name}": score for name, score in scores.items()}
        return {
            "mean": mean,
            **figures,
            **{f"loss:{n}": o.figures["loss"] for n, o in outputs.items()},
        }

    def answers(self) -> dict[str, Any]:
        """Task → the outputs of its splits."""
        outputs = {name: one.answers() for name, one in self.each.items()}
        trained = {name: one.prepared for name, one in self.each.items()}
        self.prepared = replace(self.prepared, trained=trained)
        return outputs

    def save(self, folder: Path) -> None:
        """A folder for each task; the first puts the whole vocabulary back into the body."""
        for name, one in self.each.items():
            one.save(folder / name)

    def forgetting(self) -> None:
        """Not measured over several tasks."""

    def size(self) -> dict[str, dict[str, int]]:
        """Task → the parameters of its model."""
        return {name: one.size() for name, one in self.each.items()}

    def _source(self, name: str, split: str, objective: Objective) -> BatchSource:
        if name in self.each:
            return self.each[name].source(split)
        store, recipe = self.prepared.texts[name].stores[split], self.prepared.recipe
        rows = TokenRows(store, self.first.pad_id, self.device)
        return BatchSource(rows, objective, recipe.train, recipe.seed)


def _narrowed(
    prepared: PreparedTasks, forward: Forward
) -> tuple[dict[str, dict[str, TokenizedDataset]], int]:
    """Each task's stores under the ids of the tokens that occur in any of them; under all ids
    where masked words are guessed."""
    pad_id: Any = next(iter(prepared.each.values())).tokenizer.pad_token_id
    stores = {name: one.stores for name, one in prepared.each.items()}
    if prepared.texts or not prepared.recipe.train.active_vocabulary:
        return stores, pad_id
    flat = {(name, split): store for name, own in stores.items() for split, store in own.items()}
    narrowed: Any
    narrowed, pad_id = narrow(forward, flat, pad_id)  # pyright: ignore[reportArgumentType]
    return {name: {s: narrowed[name, s] for s in own} for name, own in stores.items()}, pad_id
