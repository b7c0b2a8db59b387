"""A model in training: built from what was prepared, fitted, saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.pipelines.forgetting import Keeping
from warmstart.pipelines.prepare import Prepared

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.forward import Compute
    from warmstart.models.generation import Language
    from warmstart.tasks.base import Task
    from warmstart.training.batches import Feed, TokenFeed
    from warmstart.training.contrastive_batches import PairFeed
    from warmstart.training.generation_batches import TextFeed
    from warmstart.training.loop import Loss, Weight
    from warmstart.training.settings import Train
    from warmstart.training.state_file import StateFile
    from warmstart.training.trainer import Fit, Listener, Progress

FED = ("train", "validation")


@dataclass
class Session:
    """The model, how it computes, and its data under the ids that it computes with."""

    prepared: Prepared
    model: PreTrainedModel
    compute: Compute
    stores: dict[str, TokenizedDataset]
    pad_id: int
    device: torch.device
    language: Language | None = None
    """The model as one that writes, where the task's answer is a text."""
    keeping: Keeping | None = None

    @classmethod
    def begin(cls, prepared: Prepared) -> Session:
        """Load the base, put the head on it, attach the method, choose type and device."""
        from warmstart.models.generation import Language
        from warmstart.training.precision import choose, device_named
        from warmstart.training.vocabulary import narrow

        settings, seed = prepared.recipe.train, prepared.recipe.seed
        model = prepared.task.build_model(prepared.base, prepared.labels, seed)
        keeping = Keeping.begin(prepared, model)
        model = prepared.method.attach(model, seed)
        keeping.attached(model)
        compute, device = prepared.task.compute(model), device_named(settings.device)
        stores, pad_id = prepared.stores, prepared.tokenizer.pad_token_id
        if settings.active_vocabulary and not keeping.needs_vocabulary:
            stores, pad_id = narrow(compute, stores, pad_id)
        dtype = choose(settings.precision, device)
        compute.prepare(dtype, device, checkpointing=settings.gradient_checkpointing)
        language = Language(compute) if prepared.task.head.generates else None
        return cls(prepared, model, compute, stores, pad_id, device, language, keeping)

    def fit(
        self, folder: Path, listeners: list[Listener], *, resume: bool
    ) -> tuple[Progress, float]:
        """Train; returns where it ended, and the seconds spent on cached states (or 0)."""
        one_state = not self.prepared.task.head.per_token
        if self.prepared.method.caches_features and self.compute.is_fast and one_state:
            return self._fit_head(folder, listeners, resume)
        if self.two_steps:
            from warmstart.pipelines.few_shot import fit_in_two_steps

            return fit_in_two_steps(self, folder, listeners, resume=resume), 0.0
        method = self.prepared.method
        feeds: dict[str, Any] = {name: self.feed(name) for name in FED}
        still = method.cut(self.model) if self.prepared.task.head.gives_logits else 0
        if not still:
            return self.fitting(folder, feeds, listeners).run(resume=resume), 0.0
        from warmstart.training.cached_states import hidden_feeds

        begun, keep = time.perf_counter(), method.keeps_states
        with hidden_feeds(feeds, still, folder / "hidden", keep=keep) as above:
            seconds = time.perf_counter() - begun if above and keep else 0.0
            return self.fitting(folder, above or feeds, listeners).run(resume=resume), seconds

    def _fit_head(
        self, folder: Path, listeners: list[Listener], resume: bool
    ) -> tuple[Progress, float]:
        """As `fit`, on the outputs of a body that never moves, computed once."""
        begun = time.perf_counter()
        states = {name: self.token_feed(name).states(folder / "states" / name) for name in FED}
        seconds = time.perf_counter() - begun
        try:
            feeds = {name: self._state_feed(name, states[name]) for name in FED}
            return self.fitting(folder, feeds, listeners).run(resume=resume), seconds
        finally:
            for file in states.values():
                file.close()
            (folder / "states").rmdir()

    def predict(self) -> dict[str, np.ndarray]:
        """What the feeds give for the test and the validation split, in float32."""
        self.compute.full_precision()
        if self.two_steps:
            from warmstart.pipelines.few_shot import set_head

            set_head(self)
        found = {name: self.feed(name, last=True).predict() for name in ("test", "validation")}
        if self.prepared.task.head.gives_vectors and self.prepared.recipe.evaluate.baselines:
            found["untuned"] = self._untuned()
        return found

    def answers(self) -> dict[str, np.ndarray]:
        """See `predict`; the task is settled by the trained model, and then by what it gives."""
        self._settle(self.prepared.task.fold_into_weights(self.model))
        found = self.predict()
        self._settle(self.prepared.task.fit_thresholds(found, self.prepared.examples))
        return found

    def _settle(self, task: Task) -> None:
        recipe = self.prepared.recipe.model_copy(update={"task": task})
        self.prepared = replace(self.prepared, recipe=recipe)

    def _untuned(self) -> np.ndarray:
        """What the base gave for the test split before it was trained."""
        import torch

        from warmstart.training.contrastive_batches import PairFeed

        prepared = self.prepared
        model = prepared.task.build_model(prepared.base, prepared.labels, prepared.recipe.seed)
        compute: Any = prepared.task.compute(model.requires_grad_(False))
        compute.prepare(torch.float32, self.device, checkpointing=False)
        pad: Any = prepared.tokenizer.pad_token_id
        return PairFeed(prepared.stores["test"], compute, pad, batch_size=1).predict()

    def save(self, folder: Path) -> None:
        """Write the whole vocabulary, the weights and the tokenizer. Raises `RunError`."""
        prepared = self.prepared
        self.compute.widen_vocabulary()
        prepared.tokenizer.model_max_length = prepared.task.max_length
        notes = {"task": prepared.task.to_metadata(), "head": prepared.task.head.name}
        prepared.method.save(self.model, prepared.tokenizer, folder, prepared.base, notes)
        prepared.task.write_extras(folder)

    def forgetting(self) -> dict[str, Any] | None:
        """What was forgotten of general text; to be asked when the model has been saved."""
        return self.keeping.figure(self.model) if self.keeping else None

    def size(self) -> dict[str, int]:
        """Parameters of the whole model, and those that were trained."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        trained = sum(count for count, moves in sizes if moves)
        return {"parameters": sum(count for count, _ in sizes), "trainable": trained}

    @property
    def two_steps(self) -> bool:
        """Whether the body is trained by contrast, and the head fitted afterwards."""
        contrastive = self.prepared.objective.part_name() == "contrastive"
        return contrastive and self.prepared.task.head.single_label

    def feed(self, name: str, *, last: bool = False) -> Any:
        """Batches of one split as the task's form needs them; `last`: for the final answers."""
        if self.prepared.task.head.gives_vectors or (self.two_steps and not last):
            return self.pair_feed(name)
        return self._text_feed(name, last) if self.language else self.token_feed(name)

    def pair_feed(self, name: str) -> PairFeed:
        """Rows of one split, each step under a loss over all its vectors."""
        from warmstart.training.contrastive_batches import PairFeed

        settings = self.prepared.recipe.train
        compute: Any = self.compute
        return PairFeed(
            self.stores[name],
            compute,
            self.pad_id,
            batch_size=settings.batch_size or 1,
            micro_batch_tokens=settings.micro_batch_tokens,
            rows=self._rows(name),
        )

    def _text_feed(self, name: str, last: bool) -> TextFeed:
        from warmstart.training.generation_batches import TextFeed

        settings, task = self.prepared.recipe.train, self.prepared.task
        tried: int = getattr(task, "validation_texts", 0) if name == "validation" else 0
        assert self.language is not None
        return TextFeed(
            self.stores[name],
            self.language,
            self.pad_id,
            batch_size=settings.batch_size or 1,
            batch_tokens=settings.batch_tokens,
            micro_batch_tokens=settings.micro_batch_tokens,
            rows=self._rows(name),
            writes=(None if name == "test" else 0) if last else tried,
        )

    def token_feed(self, name: str) -> TokenFeed:
        """Batches of token ids of one split."""
        from warmstart.training.batches import TokenFeed

        settings = self.prepared.recipe.train
        return TokenFeed(
            self.stores[name],
            self.compute,
            self.pad_id,
            batch_size=settings.batch_size or 1,
            batch_tokens=settings.batch_tokens,
            micro_batch_tokens=settings.micro_batch_tokens,
            rows=self._rows(name),
        )

    def _state_feed(self, name: str, states: StateFile) -> Feed:
        from warmstart.training.batches import StateFeed

        size, targets = self.prepared.recipe.train.batch_size or 1, self.stores[name].targets
        compute: Any = self.compute
        return StateFeed(states, targets, compute, batch_size=size, rows=self._rows(name))

    def fitting(
        self,
        folder: Path,
        feeds: Mapping[str, Any],
        listeners: list[Listener],
        settings: Train | None = None,
    ) -> Fit:
        """A training run over these feeds, ready to begin; `settings` in place of the recipe's."""
        from warmstart.models.architectures import layers_of
        from warmstart.models.head_layers import unwrap
        from warmstart.training.trainer import Fit

        prepared, task = self.prepared, self.prepared.task
        loss, weight = self.losses()
        return Fit(
            model=self.model,
            compute=self.compute,
            train=feeds["train"],
            validation=feeds["validation"],
            loss=loss,
            weight=weight,
            score=lambda outputs: task.score(outputs, prepared.examples["validation"]),
            main=task.epoch_score,
            settings=settings or prepared.recipe.train,
            seed=prepared.recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=[p for block in layers_of(unwrap(self.model)) for p in block.parameters()],
            param_groups=prepared.method.param_groups(self.model),
            keeper=self.keeping.keeper(self.model, self.compute) if self.keeping else None,
        )

    def losses(self) -> tuple[Loss, Weight]:
        """The loss of a batch, and the weight that it has."""
        objective, head, weights = (
            self.prepared.objective, self.prepared.task.head, self._class_weights()
        )  # fmt: skip
        return (
            lambda outputs, y: objective.loss(outputs, y, weights, head),
            lambda y: objective.weight(y, weights, head),
        )

    def _rows(self, name: str) -> np.ndarray | None:
        return self.prepared.rows if name == "train" else None

    def _class_weights(self) -> torch.Tensor | None:
        import torch

        from warmstart.data.sampling import class_weights

        prepared = self.prepared
        if prepared.objective.class_weights == "none":
            return None
        targets = self.stores["train"].targets[prepared.rows]
        weights = class_weights(targets, len(prepared.labels))
        return torch.tensor(weights, dtype=torch.float32, device=self.device)
