"""Several tasks over one body in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.models.heads import TOKENS
from warmstart.pipelines.multitask.prepare import PreparedTasks
from warmstart.pipelines.session import Session

if TYPE_CHECKING:
    from warmstart.models.shared import MaskedCompute
    from warmstart.training.masked_batches import MaskedFeed
    from warmstart.training.task_mixture import Computes
    from warmstart.training.trainer import Fit, Listener


@dataclass
class TasksSession:
    """A session of each task, whose models have one body, and what guesses masked words."""

    prepared: PreparedTasks
    each: dict[str, Session]
    masked: dict[str, MaskedCompute]
    together: Computes

    @classmethod
    def begin(cls, prepared: PreparedTasks) -> TasksSession:
        """Load the base under every head, attach the method, make the bodies one."""
        from warmstart.models.shared import MaskedCompute, computes_for, load_masked, share_body
        from warmstart.training.precision import choose, device_named
        from warmstart.training.task_mixture import Computes

        recipe = prepared.recipe
        settings, seed, method = recipe.train, recipe.seed, _method(recipe)
        models = {
            name: method.attach(one.task.build_model(one.base, one.labels, seed), seed)
            for name, one in prepared.each.items()
        }
        guessing = {name: load_masked(prepared.base, seed) for name in prepared.texts}
        share_body([*models.values(), *guessing.values()])
        made = computes_for([*models.values()], fast=not guessing)
        computes = dict(zip(models, made, strict=True))
        masked = {name: MaskedCompute(model) for name, model in guessing.items()}
        stores, pad_id = _narrowed(prepared, computes, whole=bool(masked))
        device = device_named(settings.device)
        for compute in [*made, *masked.values()]:
            compute.prepare(
                choose(settings.precision, device), device,
                checkpointing=settings.gradient_checkpointing,
            )  # fmt: skip
        each = {
            name: Session(one, models[name], computes[name], stores[name], pad_id, device)
            for name, one in prepared.each.items()
        }
        return cls(prepared, each, masked, Computes({**computes, **masked}))

    def fitting(self, folder: Path, listeners: list[Listener]) -> Fit:
        """The training run, ready to begin."""
        from torch import nn

        from warmstart.models.architectures import layers_of
        from warmstart.models.head_layers import unwrap
        from warmstart.training.task_mixture import TogetherFeed
        from warmstart.training.trainer import Fit

        names, judged = self.prepared.task.tasks, tuple(self.each)
        feeds = {
            split: TogetherFeed(
                {name: self._feed(name, split) for name in names}, self.prepared.shares, judged
            )
            for split in ("train", "validation")
        }
        models: dict[str, Any] = {name: one.model for name, one in self.each.items()}
        models |= {name: one.model for name, one in self.masked.items()}
        blocks = [block for model in models.values() for block in layers_of(unwrap(model))]
        method, losses = _method(self.prepared.recipe), self._losses()
        train = feeds["train"]
        return Fit(
            model=nn.ModuleDict(models),
            compute=self.together,
            train=train,
            validation=feeds["validation"],
            loss=lambda outputs, y: losses[train.current][0](outputs, y),  # noqa: PLW0108
            weight=lambda y: losses[train.current][1](y),  # noqa: PLW0108
            score=self.score,
            main="mean",
            settings=self.prepared.recipe.train,
            seed=self.prepared.recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=list({id(p): p for block in blocks for p in block.parameters()}.values()),
            param_groups=[
                pace for one in self.each.values() for pace in method.param_groups(one.model)
            ],
        )

    def score(self, outputs: Any) -> dict[str, float]:
        """The mean of the tasks' main scores, and the score and the loss of each."""
        found: dict[str, float] = {}
        for name, one in self.each.items():
            task = one.prepared.task
            figures = task.score(outputs[name], one.prepared.examples["validation"])
            found |= {f"score:{name}": figures[task.epoch_score], f"loss:{name}": figures["loss"]}
        count = len(self.each)
        mean, loss = (
            sum(found[f"{what}:{name}"] for name in self.each) / count for what in ("score", "loss")
        )
        for name in self.masked:
            nll, right = outputs[name].mean(0).tolist()
            found |= {f"score:{name}": right, f"loss:{name}": nll}
        return {"mean": mean, "loss": loss, **found}

    def widen_vocabulary(self) -> None:
        """The whole vocabulary in the body again; to be called when all answers are given."""
        for one in self.each.values():
            one.compute.widen_vocabulary()

    def _losses(self) -> dict[str, Any]:
        """Task → its loss and the weight of a batch."""
        from warmstart.objectives.supervised import Supervised

        found: dict[str, Any] = {name: one.losses() for name, one in self.each.items()}
        plain = Supervised()

        def loss(outputs: Any, targets: Any) -> Any:
            return plain.loss(outputs, targets, None, TOKENS)

        def weight(targets: Any) -> Any:
            return plain.weight(targets, None, TOKENS)

        found |= dict.fromkeys(self.masked, (loss, weight))
        counts = self.prepared.task.weight_of
        return {name: (_scaled(one[0], counts(name)), one[1]) for name, one in found.items()}

    def _feed(self, name: str, split: str) -> Any:
        if name in self.each:
            return self.each[name].token_feed(split)
        return self._masked_feed(name, split)

    def _masked_feed(self, name: str, split: str) -> MaskedFeed:
        from warmstart.training.masked_batches import Hiding, MaskedFeed

        first, texts = next(iter(self.each.values())), self.prepared.texts[name]
        settings, tokenizer = self.prepared.recipe.train, first.prepared.tokenizer
        compute = self.masked[name]
        hiding = Hiding(
            tokenizer.mask_token_id,
            min(len(tokenizer), compute.model.config.vocab_size),
            tuple(tokenizer.all_special_ids),
            texts.share,
        )
        return MaskedFeed(
            texts.stores[split],
            compute,
            first.pad_id,
            hiding,
            lambda: self.together.step_seed,
            batch_size=settings.batch_size or 1,
            batch_tokens=settings.batch_tokens,
            micro_batch_tokens=settings.micro_batch_tokens,
        )


def _method(recipe: Any) -> Any:
    return recipe.method


def _scaled(loss: Any, weight: float) -> Any:
    """A loss that counts `weight` times."""

    def scaled(outputs: Any, targets: Any) -> Any:
        total, rows = loss(outputs, targets)
        return total * weight, rows

    return scaled if weight != 1 else loss


def _narrowed(
    prepared: PreparedTasks, computes: Mapping[str, Any], *, whole: bool
) -> tuple[dict[str, Any], int]:
    """Each task's stores under the ids of the tokens that occur in any of them."""
    from warmstart.training.vocabulary import narrow

    first = next(iter(prepared.each.values()))
    pad_id: Any = first.tokenizer.pad_token_id
    stores = {name: dict(one.stores) for name, one in prepared.each.items()}
    if whole or not prepared.recipe.train.active_vocabulary:
        return stores, pad_id
    flat = {f"{name}/{split}": s for name, own in stores.items() for split, s in own.items()}
    flat, pad_id = narrow(next(iter(computes.values())), flat, pad_id)
    return {
        name: {split: flat[f"{name}/{split}"] for split in own} for name, own in stores.items()
    }, pad_id
