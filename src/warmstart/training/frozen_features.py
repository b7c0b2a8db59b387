"""Frozen features: what a base makes of a text before it has learned anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.dataset import tokenise
from warmstart.models.architectures import family_of
from warmstart.models.fast.forward import forward_for
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.models.head_layers import BELOW_HEAD, FEATURES, HEAD, Readout
from warmstart.models.hf_calls import LOAD, one_line, quiet
from warmstart.models.loading import load_tokenizer
from warmstart.objectives.base import Objective
from warmstart.training.batches import BatchSource, EvalOutput
from warmstart.training.datasets import Rows, TokenRows
from warmstart.training.precision import choose, device_named
from warmstart.training.settings import Train

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.models.base import Base

Progress = Callable[[str, int, int], None]


def features(
    base: Base,
    texts: pa.ChunkedArray | Sequence[str],
    max_length: int = 128,
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """The mean of the last hidden states over the tokens of each text, [n, H] float32.

    Special tokens count, as in sentence-transformers; of an encoder-decoder the encoder is asked.
    Batches are of about equal length; bf16 where it is faster (`precision`). A text without tokens
    is a row of zeros. `progress("features", done, of)` is told of each batch. Raises
    `BaseModelError` for a base that cannot be loaded.
    """
    from transformers import AutoModel

    tokenizer = load_tokenizer(base)
    longest = min(max_length, tokenizer.model_max_length)
    store = tokenise(texts, tokenizer.backend_tokenizer, longest)
    with one_line(f"{base.name} cannot be loaded"), quiet():
        model: Any = AutoModel.from_pretrained(
            base.path, dtype=torch.float32, use_safetensors=True, **LOAD
        )
    width, on = model.config.hidden_size, device_named(device)
    if family_of(model.config).kind == "encoder-decoder":
        model = model.get_encoder()
    forward = forward_for(model.requires_grad_(False), Readout("body"))
    forward.prepare(choose(precision, on), on, checkpointing=False)
    pad: Any = tokenizer.pad_token_id
    rows = TokenRows(store, pad, on)
    if not len(store):
        return np.empty((0, width), np.float32)

    def answers() -> Iterator[tuple[Batch, Outputs]]:
        done = 0
        for numbers in rows.ordered(1):
            batch, done = rows.collate(numbers), done + len(numbers)
            if progress is not None:
                progress("features", done, len(rows))
            yield batch, forward.forward(batch)

    with forward.evaluating():
        return rows.gather(forward, answers())


# The last layer of a head, fitted in one go by logistic regression.


def fitted_head(
    features: np.ndarray, targets: np.ndarray, classes: int, strength: float, *, bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Weight [K, H] and bias [K] of a multinomial logistic regression.

    The features are centred (where there is a bias) and scaled to a mean length of 1 for it, and
    the weights are those for the features as they are.

    Args:
        features: [n, H].
        targets: class numbers [n].
        classes: K; a class that no row has gets a weight of zeros and the least bias.
        strength: C of scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    wide = features.astype(np.float64)
    middle = wide.mean(0) if bias else np.zeros(wide.shape[1])
    centred = wide - middle
    scale = max(float(np.linalg.norm(centred, axis=1).mean()), 1e-12)
    seen = np.unique(targets)
    weight, shift = np.zeros((classes, wide.shape[1])), np.zeros(classes)
    if len(seen) > 1:
        model: Any = LogisticRegression(C=strength, max_iter=500, fit_intercept=bias)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(centred / scale, targets)
        slope, start = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn keeps the second class's side alone
            slope, start = np.concatenate([-slope, slope]) / 2, np.array([-start[0], start[0]]) / 2
        weight[seen] = slope / scale
        shift[:] = start.min() if bias else 0.0
        shift[seen] = start - slope @ middle / scale
        missing = np.setdiff1d(np.arange(classes), seen)
        shift[missing] = shift[seen].min() if bias else 0.0
    return torch.from_numpy(weight).float(), torch.from_numpy(shift).float() if bias else None


@torch.no_grad()
def fit_head(
    forward: Forward, rows: Rows, targets: np.ndarray, classes: int, strength: float
) -> None:
    """Set the head's last layer to `fitted_head` of what it reads of the rows; from here on the
    model gives logits."""
    layer: Any = forward.output_layer
    forward.readout = FEATURES
    weight, shift = fitted_head(
        rows.predict(forward), targets, classes, strength, bias=layer.bias is not None
    )
    layer.weight.copy_(weight)
    if layer.bias is not None and shift is not None:
        layer.bias.copy_(shift)
    forward.readout = HEAD


class FittedHead(BatchSource):
    """A split on which the body is judged by a head that is fitted before it answers.

    Args:
        fit: sets the head; see `fit_head`.
        answering: the rows of the split as the head answers them.
    """

    def __init__(
        self, dataset: Rows, objective: Objective, settings: Train, seed: int, *,
        fit: Callable[[], None], answering: Callable[[], Rows],
    ) -> None:  # fmt: skip
        super().__init__(dataset, objective, settings, seed)
        self.fit, self.answering = fit, answering

    def evaluate(self, forward: Forward, *, answers: bool = True) -> EvalOutput:
        output = super().evaluate(forward, answers=False)
        self.fit()
        logits = self.answering().predict(forward)
        forward.readout = BELOW_HEAD
        return replace(output, outputs=logits)
