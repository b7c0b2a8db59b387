"""Training in two steps: the body by contrast, then the head by logistic regression.

`session` is a `verbs.session.Session`, which calls what stands here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from warmstart.training.contrastive_batches import PairFeed
    from warmstart.training.trainer import Listener, Progress


def fit_in_two_steps(
    session: Any, folder: Path, listeners: list[Listener], *, resume: bool
) -> Progress:
    """Train the body for all its epochs; the last weights are kept, `set_head` does the rest.

    The validation split is asked once, at the end: with so few rows it chooses nothing.
    """
    recipe = session.prepared.recipe
    passes = Passes(session.pair_feed("train"), recipe.train.epochs or 1)
    settings = recipe.train.model_copy(update={"epochs": 1, "keep": "last", "patience": 0})
    feeds = {"train": passes, "validation": _Asked(session)}
    return session.fitting(folder, feeds, listeners, settings).run(resume=resume)


class Passes:
    """Several passes over a feed as a single epoch."""

    def __init__(self, feed: PairFeed, passes: int) -> None:
        self.feed, self.passes = feed, passes
        self.batches, self.logits, self.predict = feed.batches, feed.logits, feed.predict

    def __len__(self) -> int:
        return len(self.feed)

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of all passes."""
        found = range(epoch * self.passes, (epoch + 1) * self.passes)
        return [rows for number in found for rows in self.feed.epoch(seed, number)]


class _Asked:
    """The validation split, answered by a head that is fitted to train when it is asked."""

    def __init__(self, session: Any) -> None:
        self.session, self.feed = session, session.token_feed("validation")

    def __len__(self) -> int:
        return len(self.feed)

    def predict(self) -> np.ndarray:
        """Logits [n, K]."""
        if not len(self.feed):
            return np.zeros((0, len(self.session.prepared.labels)), np.float32)
        set_head(self.session)
        compute: Any = self.session.compute
        found = self.feed.predict()
        compute.gives = "vectors"
        return found


def set_head(session: Any) -> None:
    """Fit the head's last layer to the training rows; from here on the compute gives logits."""
    from warmstart.training.frozen_features import fitted_head

    compute: Any = session.compute
    prepared = session.prepared
    task: Any = prepared.task
    feed = session.token_feed("train")
    compute.gives = "features"
    weight, bias = fitted_head(
        feed.predict(), feed.store.targets, len(prepared.labels), task.head_strength,
        bias=compute.output.bias is not None,
    )  # fmt: skip
    compute.set_output(weight, bias)
    compute.gives = "logits"
