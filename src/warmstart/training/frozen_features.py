"""Frozen features: what a base makes of a text before it has learned anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.dataset import tokenise
from warmstart.models.architectures import family_of
from warmstart.models.checks import read_json
from warmstart.models.forward import FastCompute, compute_for
from warmstart.models.hf_calls import LOAD, one_line, quiet
from warmstart.models.loading import load_classifier, load_tokenizer
from warmstart.training.batches import TokenFeed
from warmstart.training.precision import choose, device_named

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
    tokenizer = load_tokenizer(base)
    longest = min(max_length, tokenizer.model_max_length)
    store = tokenise(texts, tokenizer.backend_tokenizer, longest)
    where = device_named(device)
    pooled: Any = _pooled(base, choose(precision, where), where)
    pooled.told, pooled.rows = progress, len(store)
    pad: Any = tokenizer.pad_token_id
    found = TokenFeed(store, pooled, pad, batch_size=1).predict()
    return found if len(store) else np.empty((0, pooled.width), np.float32)


def _pooled(base: Base, dtype: torch.dtype, device: torch.device) -> _Pooled:
    """The fastest way to the means of this base."""
    if family_of(read_json(base.path / "config.json")).post_norm_block:
        compute = compute_for(load_classifier(base, ("0", "1"), seed=0, dropout=0.0))
        if isinstance(compute, FastCompute):
            return _Fast(compute, dtype, device)
    return _Slow(base, dtype, device)


class _Pooled:
    """Answers `TokenFeed.predict` with the mean hidden state of each row, in place of logits."""

    dtype = torch.float32
    """Of what comes out, whatever the layers compute in."""

    width: int
    device: torch.device

    def __init__(self) -> None:
        self.told: Progress | None = None
        self.done = self.rows = 0

    def hidden(self, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """The last hidden states [B, L, H]."""
        raise NotImplementedError

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """The means [B, H] in float32 of ids [B, L], padded on the right."""
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        if ids.shape[1]:
            states = self.hidden(ids, mask, lengths).float().masked_fill(~mask[:, :, None], 0.0)
            means = states.sum(1) / lengths.clamp(min=1)[:, None]
        else:
            means = torch.zeros(len(ids), self.width)
        self.done += len(ids)
        if self.told is not None:
            self.told("features", self.done, self.rows)
        return means


class _Fast(_Pooled):
    """Through the fast encoder, the last layer for all tokens."""

    def __init__(self, compute: FastCompute, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        compute.model.requires_grad_(False)
        compute.encoder.cls_only = False
        compute.prepare(dtype, device, checkpointing=False)
        config: Any = compute.model.config
        self.encoder, self.device, self.width = compute.encoder, device, config.hidden_size

    def hidden(self, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        return self.encoder.forward(ids, lengths, training=False)


class _Slow(_Pooled):
    """Through transformers' own forward pass, under autocast."""

    def __init__(self, base: Base, dtype: torch.dtype, device: torch.device) -> None:
        from transformers import AutoModel

        super().__init__()
        with one_line(f"{base.name} cannot be loaded"), quiet():
            model: Any = AutoModel.from_pretrained(
                base.path, dtype=torch.float32, use_safetensors=True, **LOAD
            )
        config = model.config
        whole = family_of(config).kind != "encoder-decoder"
        self.model: Any = (model if whole else model.get_encoder()).to(device).eval()
        self.dtype, self.device, self.width = dtype, device, config.hidden_size

    def hidden(self, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        low = self.dtype != torch.float32
        with torch.autocast(ids.device.type, self.dtype, enabled=low):
            return self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state


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
        found, start = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn keeps the second class's side alone
            found, start = np.concatenate([-found, found]) / 2, np.array([-start[0], start[0]]) / 2
        weight[seen] = found / scale
        shift[:] = start.min() if bias else 0.0
        shift[seen] = start - found @ middle / scale
        missing = np.setdiff1d(np.arange(classes), seen)
        shift[missing] = shift[seen].min() if bias else 0.0
    made = torch.from_numpy(weight).float()
    return made, torch.from_numpy(shift).float() if bias else None
