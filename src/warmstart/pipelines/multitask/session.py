"""Several tasks over one body in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.objectives.mlm import MLM
from warmstart.pipelines.multitask.prepare import PreparedTasks
from warmstart.pipelines.session import Session

if TYPE_CHECKING:
    from warmstart.models.forward import Forward
    from warmstart.objectives.base import Objective
    from warmstart.training.batches import BatchSource
    from warmstart.training.task_mixture import SharedForward
    from warmstart.training.trainer import Fit, Listener


@dataclass
class TasksSession:
    """A session of each task, whose models have one body, and what guesses masked words."""

    prepared: PreparedTasks
    each: dict[str, Session]
    masked: dict[str, Forward]
    together: SharedForward

    @classmethod
    def begin(cls, prepared: PreparedTasks) -> TasksSession:
        """Load the base under every head, attach the method, make the bodies one."""
        from warmstart.models.fast.forward import forwards_for
        from warmstart.models.forward import Forward
        from warmstart.models.loading import load_masked, share_body
        from warmstart.training.precision import choose, device_named
        from warmstart.training.task_mixture import SharedForward

        recipe = prepared.recipe
        settings, seed, method = recipe.train, recipe.seed, _method(recipe)
        models = {
            name: method.attach(one.task.build_model(one.base, one.labels, seed), seed)
            for name, one in prepared.each.items()
        }
        guessing = {name: load_masked(prepared.base, seed) for name in prepared.texts}
        share_body([*models.values(), *guessing.values()])
        made = forwards_for([*models.values()], fast=not guessing)
        forwards = dict(zip(models, made, strict=True))
        masked = {name: Forward(model) for name, model in guessing.items()}
        stores, pad_id = _narrowed(prepared, forwards, whole=bool(masked))
        device = device_named(settings.device)
        for forward in [*made, *masked.values()]:
            forward.prepare(
                choose(settings.precision, device), device,
                checkpointing=settings.gradient_checkpointing,
            )  # fmt: skip
        each = {
            name: Session(one, models[name], forwards[name], stores[name], pad_id, device)
            for name, one in prepared.each.items()
        }
        return cls(prepared, each, masked, SharedForward({**forwards, **masked}))

    def fitting(self, folder: Path, listeners: list[Listener]) -> Fit:
        """The training run, ready to begin."""
        from torch import nn

        from warmstart.models.architectures import layers_of
        from warmstart.models.head_layers import unwrap
        from warmstart.training.task_mixture import MixedObjective, TaskMixture
        from warmstart.training.trainer import Fit

        recipe, task = self.prepared.recipe, self.prepared.task
        objectives = {name: self._objective(name) for name in task.tasks}
        sources = {
            split: TaskMixture(
                {name: self._source(name, split, objectives[name]) for name in task.tasks},
                self.prepared.shares, tuple(self.each), recipe.train, recipe.seed,
            )
            for split in ("train", "validation")
        }  # fmt: skip
        models: dict[str, Any] = {name: one.model for name, one in self.each.items()}
        models |= {name: one.model for name, one in self.masked.items()}
        blocks = [block for model in models.values() for block in layers_of(unwrap(model))]
        method = _method(recipe)
        return Fit(
            model=nn.ModuleDict(models),
            forward=self.together,
            train=sources["train"],
            validation=sources["validation"],
            objective=MixedObjective.of(objectives, {n: task.weight_of(n) for n in task.tasks}),
            score=self.score,
            main="mean",
            settings=recipe.train,
            seed=recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=list({id(p): p for block in blocks for p in block.parameters()}.values()),
            param_groups=[
                pace for one in self.each.values() for pace in method.param_groups(one.model)
            ],
        )

    def score(self, outputs: Any) -> dict[str, float]:
        """The mean of the tasks' main scores, and the score and the loss of each."""
        scores: dict[str, float] = {}
        for name, one in self.each.items():
            task = one.prepared.task
            figures = task.score(outputs[name].outputs, one.prepared.examples["validation"])
            scores[name] = figures[task.epoch_score]
        mean = sum(scores.values()) / len(scores)
        scores |= {name: outputs[name].metrics["accuracy"] for name in self.masked}
        figures = {f"score:{name}": score for name, score in scores.items()}
        return {"mean": mean, **figures, **{f"loss:{n}": o.loss for n, o in outputs.items()}}

    def widen_vocabulary(self) -> None:
        """The whole vocabulary in the body again; to be called when all answers are given."""
        for one in self.each.values():
            one.forward.widen_vocabulary()

    def _objective(self, name: str) -> Objective:
        """The objective of a task, set up."""
        if name in self.each:
            return self.each[name].objective
        objective = MLM(share=self.prepared.texts[name].share)
        first, model = next(iter(self.each.values())), self.masked[name].model
        objective.setup(replace(first, model=model))
        return objective

    def _source(self, name: str, split: str, objective: Objective) -> BatchSource:
        from warmstart.training.batches import BatchSource
        from warmstart.training.datasets import TokenRows

        if name in self.each:
            return self.each[name].source(split)
        first, recipe = next(iter(self.each.values())), self.prepared.recipe
        rows = TokenRows(self.prepared.texts[name].stores[split], first.pad_id, first.device)
        return BatchSource(rows, objective, recipe.train, recipe.seed)


def _method(recipe: Any) -> Any:
    return recipe.method


def _narrowed(
    prepared: PreparedTasks, forwards: Mapping[str, Any], *, whole: bool
) -> tuple[dict[str, Any], int]:
    """Each task's stores under the ids of the tokens that occur in any of them."""
    from warmstart.training.datasets import narrow

    first = next(iter(prepared.each.values()))
    pad_id: Any = first.tokenizer.pad_token_id
    stores = {name: dict(one.stores) for name, one in prepared.each.items()}
    if whole or not prepared.recipe.train.active_vocabulary:
        return stores, pad_id
    flat = {f"{name}/{split}": s for name, own in stores.items() for split, s in own.items()}
    flat, pad_id = narrow(next(iter(forwards.values())), flat, pad_id)
    return {
        name: {split: flat[f"{name}/{split}"] for split in own} for name, own in stores.items()
    }, pad_id
