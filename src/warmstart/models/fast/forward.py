"""How a model computes a batch by the fast encoder; and which models can be computed so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from warmstart.models.architectures import body_of, family_of
from warmstart.models.fast.block import can_read
from warmstart.models.fast.encoder import FastEncoder
from warmstart.models.fast.mixed_precision import MixedPrecision, RowGradient
from warmstart.models.fast.split import Cut, FastCut
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.models.head_layers import HEAD, Readout, reads_tokens, unwrap
from warmstart.models.peft.prompts import is_prompted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def forward_for(model: PreTrainedModel, readout: Readout = HEAD, *, fast: bool = True) -> Forward:
    """The fastest way to compute `model`."""
    return (FastForward if fast and is_fast(model) else Forward)(model, readout)


def forwards_for(models: Sequence[PreTrainedModel], *, fast: bool) -> list[Forward]:
    """How models that share a body are computed: all of them by the fast encoder, or none."""
    if fast and all(is_fast(model) for model in models):
        return [FastForward(model, copies=False) for model in models]
    return [Forward(model) for model in models]


def with_states(model: Forward, batch: Batch) -> tuple[Outputs, Tensor]:
    """What a model says of a batch, and its last hidden states [B, L, H], of one pass; those of
    padding mean nothing."""
    if isinstance(model, FastForward):
        states = model.hidden(batch)
        features = states if reads_tokens(model.model) else states[:, 0]
        return model.head(features.float(), training=model.training), states
    seen: list[Tensor] = []
    hook = body_of(unwrap(model.model)).register_forward_hook(
        lambda _, __, output: seen.append(output.last_hidden_state)
    )
    try:
        outputs = model.forward(batch)
    finally:
        hook.remove()
    lengths, long = batch.inputs["lengths"], batch.inputs["ids"].shape[1]
    states = seen[-1][:, -long:]  # behind virtual tokens
    if family_of(unwrap(model.model).config).padding_side == "left":
        if not reads_tokens(model.model):
            columns = torch.arange(long, device=states.device)
            columns = (columns + long - lengths[:, None]) % long
            states = states.gather(1, columns[..., None].expand_as(states))
    return outputs, states


def is_fast(model: PreTrainedModel) -> bool:
    """Whether the fast encoder can compute it."""
    inner: Any = unwrap(model)
    config, known = inner.config, bool(family_of(inner.config).post_norm_block)
    if not known or hasattr(inner, "own_head") or is_prompted(model):
        return False
    absolute = getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
    return absolute and not getattr(config, "is_decoder", False) and can_read(inner)


class FastForward(Forward):
    """The fast encoder under the family's own head.

    Args:
        copies: whether 16-bit copies of the matrices are kept; their place in memory cannot be
            shared by models that share a body.
    """

    def __init__(
        self, model: PreTrainedModel, readout: Readout = HEAD, *, copies: bool = True
    ) -> None:
        super().__init__(model, readout)
        inner = unwrap(model)
        self._embedding: Any = inner.get_input_embeddings()
        self._whole: Tensor | None = None
        self._rows: RowGradient | None = None
        self._mixed_precision: MixedPrecision | None = None
        self._copies = copies
        self._outside = False
        """Whether gradients also come from passes of the model's own."""
        self._parameters: list[nn.Parameter] = []
        self._reads_tokens = reads_tokens(model)
        self.caches_features = not self._reads_tokens

        def lookup(ids: Tensor) -> Tensor:
            rows = self._rows if torch.is_grad_enabled() else None
            return self._embedding(ids) if rows is None else rows.lookup(ids)

        self.encoder = FastEncoder(inner, lookup)
        if readout.source == "body":
            self.encoder.cls_only = readout.pooling == "first"

    def prepare(self, dtype: torch.dtype, device: torch.device, *, checkpointing: bool) -> None:
        self.dtype, self.device = dtype, device
        self.model.to(device)  # pyright: ignore[reportArgumentType]
        self.encoder.prepare(dtype, device, checkpointing=checkpointing)
        self._parameters = list(self.model.parameters())  # a walk over all modules: not each step
        weight = self._embedding.weight
        self._rows = RowGradient(weight) if weight.requires_grad else None
        self._mixed_precision = None
        groups = [
            group
            for group in self.encoder.matrices()
            if all(layer.weight.requires_grad and layer.bias is not None for layer in group)
        ]
        if groups and dtype != torch.float32 and self._copies:
            weights: list[list[Any]] = [[layer.weight for layer in group] for group in groups]
            biases: list[list[Any]] = [[layer.bias for layer in group] for group in groups]
            self._mixed_precision = MixedPrecision(weights + biases, dtype)
        self.encoder.mixed_precision = self._mixed_precision
        self.refresh()

    def narrow_vocabulary(self, used: np.ndarray) -> np.ndarray | None:
        weight: nn.Parameter = self._embedding.weight
        if not weight.requires_grad or len(used) >= weight.shape[0]:
            return None
        self._whole = weight.data
        self.used_rows = torch.from_numpy(used.astype(np.int64))
        self._embedding.weight = nn.Parameter(weight.data[self.used_rows].clone())
        table = np.zeros(weight.shape[0], dtype=np.int64)
        table[used] = np.arange(len(used))
        return table

    def widen_vocabulary(self) -> None:
        if self._whole is None or self.used_rows is None:
            return
        self._whole[self.used_rows] = self._embedding.weight.data.to(self._whole.device)
        self._embedding.weight = nn.Parameter(self._whole)
        self._whole = self.used_rows = self._rows = None

    def begin_epoch(self, seed: int) -> None:
        self.encoder.begin_epoch(seed)

    def begin_step(self, seed: int) -> None:
        super().begin_step(seed)
        self.encoder.begin_step(seed)

    def _cut(self, blocks: int) -> Cut | None:
        return FastCut(self, blocks) if blocks else None

    def without_dropout(self) -> None:
        super().without_dropout()
        self.encoder.dropout = (0.0, 0.0)

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        self.set_mode(training)
        if self.readout.source == "features":
            return self._head_inputs(ids, lengths, types)
        if self.readout.source == "body":
            hidden = self.encoder.forward(ids, lengths, training=training, types=types)
            columns = torch.arange(hidden.shape[1], device=ids.device)
            return self.readout.pool(hidden, columns < lengths[:, None])
        features = self.features(ids, lengths, training=training, types=types)
        below = self.readout.source == "below_head"
        return features if below else self.head(features, training=training)

    def features(
        self, ids: Tensor, lengths: Tensor, *, training: bool = False, types: Tensor | None = None
    ) -> Tensor:
        """What the head reads, in float32: the first token [B, H], or every one [B, L, H]."""
        self.set_mode(training)  # before the body computes: adapters have a dropout of their own
        hidden = self.encoder.forward(ids, lengths, training=training, types=types)
        return (hidden if self._reads_tokens else hidden[:, 0]).float()

    def _head_logits(self, ids: Tensor, lengths: Tensor, types: Tensor | None) -> Tensor:
        training = self.model.training
        features = self.features(ids, lengths, training=training, types=types)
        return self.head(features, training=training)

    def token_states(self, ids: Tensor, lengths: Tensor, types: Tensor | None = None) -> Tensor:
        self.set_mode(self.training)
        cls_only, self.encoder.cls_only = self.encoder.cls_only, False
        try:
            with torch.autocast(self.device.type, enabled=False):  # the encoder has its own types
                return self.encoder.forward(ids, lengths, training=self.training, types=types)
        finally:
            self.encoder.cls_only = cls_only

    def _compute(self, inputs: Mapping[str, Any]) -> Outputs:
        if "by" in inputs:  # which may write to the gradient of any weight
            self._outside = True
            self.filled()
        return super()._compute(inputs)

    def vocabulary(self, states: Tensor) -> Tensor:
        """As the slow one; a tied output matrix gives every row of the embeddings a gradient, which
        is to be forgotten as a whole after the step."""
        self.filled()
        return super().vocabulary(states)

    def _take_gradients(self, *, accumulate: bool) -> None:
        if self._mixed_precision is not None:
            self._mixed_precision.collect(accumulate=accumulate or self._outside)
            if self._outside:
                self._mixed_precision.forget(whole=False)

    def filled(self) -> None:
        if self._rows is not None:
            self._rows.fill()

    def after_step(self) -> None:
        for parameter in self._parameters or self.model.parameters():
            if parameter is self._embedding.weight and self._rows is not None:
                continue
            if self._mixed_precision is None or not self._mixed_precision.owns(parameter):
                parameter.grad = None
        if self._rows is not None:
            self._rows.zero()
        if self._outside and self._mixed_precision is not None:
            self._mixed_precision.forget()
        self.refresh()

    def refresh(self) -> None:
        if self._mixed_precision is not None:
            self._mixed_precision.refresh()

    def full_precision(self) -> None:
        self.dtype = torch.float32
        if self._mixed_precision is not None:
            self._mixed_precision.release()
        self._mixed_precision = self.encoder.mixed_precision = None
        self.encoder.prepare(torch.float32, self.device, checkpointing=False)
