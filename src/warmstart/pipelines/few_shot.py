"""Training in two steps: the body by contrast, then the head by logistic regression.

`session` is a `pipelines.session.Session`, which calls what stands here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from warmstart.models.forward import BELOW_HEAD, FEATURES, HEAD
from warmstart.training.batches import BatchSource, EvalOutput
from warmstart.training.frozen_features import fitted_head

if TYPE_CHECKING:
    from warmstart.models.forward import Forward
    from warmstart.training.trainer import Listener, Progress


def fit_in_two_steps(
    session: Any, folder: Path, listeners: list[Listener], *, resume: bool
) -> Progress:
    """Train the body for all its epochs; the last weights are kept, `set_head` does the rest.

    All passes are one epoch, and validation follows at the end: so few rows choose nothing.
    """
    recipe, length = session.prepared.recipe, session.source("train").length()
    settings = recipe.train.model_copy(
        update={"epochs": None, "tokens": None, "max_steps": length.steps, "keep": "last",
                "patience": 0},
    )  # fmt: skip
    train = BatchSource(
        session.rows("train"), session.objective, settings, recipe.seed,
        rows=session.prepared.rows, passes=length.epochs,
    )  # fmt: skip
    validation = _FittedHead(session.rows("validation"), session.objective, settings, recipe.seed)
    validation.session = session
    sources = {"train": train, "validation": validation}
    return session.fitting(folder, sources, listeners, settings).run(resume=resume)


class _FittedHead(BatchSource):
    """The validation split, whose answers are those of a head that is fitted to train."""

    session: Any

    def evaluate(self, forward: Forward, *, answers: bool = True) -> EvalOutput:
        output = super().evaluate(forward, answers=False)
        set_head(self.session)
        logits = self.session.rows("validation", last=True).predict(forward)
        forward.readout = BELOW_HEAD
        return replace(output, outputs=logits)


@torch.no_grad()
def set_head(session: Any) -> None:
    """Fit the head's last layer to the training rows; from here on the model gives logits."""
    task: Any = session.prepared.task
    forward, layer = session.forward, session.forward.output_layer
    forward.readout = FEATURES
    features = session.rows("train", last=True).predict(forward)
    targets, bias = session.datasets["train"].targets, layer.bias is not None
    weight, shift = fitted_head(
        features, targets, len(session.labels), task.head_strength, bias=bias
    )
    layer.weight.copy_(weight)
    if layer.bias is not None and shift is not None:
        layer.bias.copy_(shift)
    forward.readout = HEAD
