"""A model in training: built from what was prepared, fitted, saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.verbs.prepare import Prepared

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

    from warmstart.data.tokens import TokenStore
    from warmstart.models.compute import Compute
    from warmstart.train.feed import Feed, TokenFeed
    from warmstart.train.fit import Fit, Listener, Progress
    from warmstart.train.states import StateFile

FED = ("train", "validation")


@dataclass
class Session:
    """The model, how it computes, and its data under the ids that it computes with."""

    prepared: Prepared
    model: PreTrainedModel
    compute: Compute
    stores: dict[str, TokenStore]
    pad_id: int
    device: torch.device

    @classmethod
    def begin(cls, prepared: Prepared) -> Session:
        """Load the base, put the head on it, attach the method, choose type and device."""
        from warmstart.models.compute import compute_for
        from warmstart.train.precision import choose, device_named
        from warmstart.train.vocabulary import narrow

        settings, seed = prepared.recipe.train, prepared.recipe.seed
        model = prepared.task.head(prepared.base, prepared.labels, seed)
        model = prepared.method.attach(model, seed)
        compute, device = compute_for(model), device_named(settings.device)
        stores, pad_id = prepared.stores, prepared.tokenizer.pad_token_id
        if settings.active_vocabulary:
            stores, pad_id = narrow(compute, stores, pad_id)
        dtype = choose(settings.precision, device)
        compute.prepare(dtype, device, checkpointing=settings.gradient_checkpointing)
        return cls(prepared, model, compute, stores, pad_id, device)

    def fit(
        self, folder: Path, listeners: list[Listener], *, resume: bool
    ) -> tuple[Progress, float]:
        """Train; returns where it ended, and the seconds spent on cached states (or 0)."""
        if self.prepared.method.caches_features and self.compute.is_fast:
            return self._fit_head(folder, listeners, resume)
        method, feeds = self.prepared.method, {name: self.token_feed(name) for name in FED}
        still = method.cut(self.model)
        if not still:
            return self._fit(folder, feeds, listeners).run(resume=resume), 0.0
        from warmstart.train.hidden import hidden_feeds

        begun, keep = time.perf_counter(), method.keeps_states
        with hidden_feeds(feeds, still, folder / "hidden", keep=keep) as above:
            seconds = time.perf_counter() - begun if above and keep else 0.0
            return self._fit(folder, above or feeds, listeners).run(resume=resume), seconds

    def _fit_head(
        self, folder: Path, listeners: list[Listener], resume: bool
    ) -> tuple[Progress, float]:
        """As `fit`, on the outputs of a body that never moves, computed once."""
        begun = time.perf_counter()
        states = {name: self.token_feed(name).states(folder / "states" / name) for name in FED}
        seconds = time.perf_counter() - begun
        try:
            feeds = {name: self._state_feed(name, states[name]) for name in FED}
            return self._fit(folder, feeds, listeners).run(resume=resume), seconds
        finally:
            for file in states.values():
                file.close()
            (folder / "states").rmdir()

    def predict(self) -> dict[str, np.ndarray]:
        """What the feeds give for the test and the validation split, in float32."""
        self.compute.full_precision()
        return {name: self.token_feed(name).predict() for name in ("test", "validation")}

    def save(self, folder: Path) -> None:
        """Write the whole vocabulary, the weights and the tokenizer. Raises `RunError`."""
        prepared = self.prepared
        self.compute.widen_vocabulary()
        prepared.tokenizer.model_max_length = prepared.task.max_length
        notes = {"task": prepared.task.saved(), "head": prepared.task.form}
        prepared.method.save(self.model, prepared.tokenizer, folder, prepared.base, notes)

    def size(self) -> dict[str, int]:
        """Parameters of the whole model, and those that were trained."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        trained = sum(count for count, moves in sizes if moves)
        return {"parameters": sum(count for count, _ in sizes), "trainable": trained}

    def token_feed(self, name: str) -> TokenFeed:
        """Batches of token ids of one split."""
        from warmstart.train.feed import TokenFeed

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
        from warmstart.train.feed import StateFeed

        size, targets = self.prepared.recipe.train.batch_size or 1, self.stores[name].targets
        compute: Any = self.compute
        return StateFeed(states, targets, compute, batch_size=size, rows=self._rows(name))

    def _fit(self, folder: Path, feeds: Mapping[str, Any], listeners: list[Listener]) -> Fit:
        from warmstart.models.families import layers_of
        from warmstart.models.heads import unwrap
        from warmstart.train.fit import Fit

        prepared, weights = self.prepared, self._class_weights()
        objective, task = prepared.objective, prepared.task
        return Fit(
            model=self.model,
            compute=self.compute,
            train=feeds["train"],
            validation=feeds["validation"],
            loss=lambda outputs, y: objective.loss(outputs, y, weights, task.form),
            weight=lambda y: objective.weight(y, weights, task.form),
            score=lambda outputs: task.score(outputs, prepared.examples["validation"]),
            main=task.main_score,
            settings=prepared.recipe.train,
            seed=prepared.recipe.seed,
            folder=folder,
            listeners=listeners,
            hidden=[p for block in layers_of(unwrap(self.model)) for p in block.parameters()],
            paces=prepared.method.paces(self.model),
        )

    def _rows(self, name: str) -> np.ndarray | None:
        return self.prepared.rows if name == "train" else None

    def _class_weights(self) -> torch.Tensor | None:
        import torch

        from warmstart.data.balance import class_weights

        prepared = self.prepared
        if prepared.objective.class_weights == "none":
            return None
        targets = self.stores["train"].targets[prepared.rows]
        weights = class_weights(targets, len(prepared.labels))
        return torch.tensor(weights, dtype=torch.float32, device=self.device)
