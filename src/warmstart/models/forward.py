"""How a classifier computes: the fast encoder where the family allows it, else transformers' own.

Both answer the same questions, so that the training loop does not know which one it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from warmstart.errors import RecipeError
from warmstart.models.architectures import body_of, family_of, word_embedding_of
from warmstart.models.fast.block import Block, can_read, tuned_norm
from warmstart.models.fast.encoder import FastEncoder
from warmstart.models.fast.mixed_precision import MixedPrecision, RowGradient
from warmstart.models.head_layers import head_logits, reads_tokens, unwrap
from warmstart.models.peft.prompts import answer_of, is_prompted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def compute_for(model: PreTrainedModel, *, fast: bool = True) -> Compute:
    """The fastest way to compute `model`."""
    inner = unwrap(model)
    own = hasattr(inner, "own_head")
    known = bool(family_of(inner.config).post_norm_block) and not (own or is_prompted(model))
    quick = fast and known and _plain(inner) and can_read(inner)
    return FastCompute(model) if quick else Compute(model)


class Compute:
    """The model's own forward pass, under autocast; works for every family."""

    is_fast = False
    used_rows: Tensor | None = None
    """The embedding rows that are trained, where these are not all."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.dtype, self.device = torch.float32, torch.device("cpu")
        family = family_of(unwrap(model).config)
        self._pads_left = family.padding_side == "left" and not reads_tokens(model)
        self._answer = answer_of(model, family)

    def prepare(self, dtype: torch.dtype, device: torch.device, *, checkpointing: bool) -> None:
        """Choose type and device; called once before training."""
        self.dtype, self.device = dtype, device
        self.model.to(device)  # pyright: ignore[reportArgumentType]
        if checkpointing:
            inner: Any = unwrap(self.model)
            if is_prompted(self.model):
                raise RecipeError("train.gradient_checkpointing does not go with virtual tokens")
            if not inner.supports_gradient_checkpointing:
                name = inner.config.model_type
                raise RecipeError(
                    f"train.gradient_checkpointing: transformers has none for '{name}'"
                )
            newer = getattr(inner, "activation_checkpointing_enable", None)
            (newer or inner.gradient_checkpointing_enable)({"use_reentrant": False})

    def narrow_vocabulary(self, used: np.ndarray) -> np.ndarray | None:
        """Train only the embedding rows in `used`; returns old id → new id, or None if refused."""
        return None

    def widen_vocabulary(self) -> None:
        """Write the trained rows back where they came from."""

    def begin_epoch(self, seed: int) -> None:
        """Make the epoch's random numbers a function of `seed`."""

    def begin_step(self, seed: int) -> None:
        """Make the step's random numbers a function of `seed`."""
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # a hundredth of manual_seed's cost
        else:
            torch.manual_seed(seed)

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """Logits in float32, [B, K], or [B, L, K] where the head reads every token.

        Args:
            ids: token ids [B, L], padded on the right.
            lengths: tokens in each row [B].
            types: token types [B, L], or None where all are 0.
        """
        self._train(training)
        columns = torch.arange(ids.shape[1], device=ids.device)
        if self._pads_left:
            columns = (columns - (ids.shape[1] - lengths[:, None])) % ids.shape[1]
            ids = ids.gather(1, columns)
            types = None if types is None else types.gather(1, columns)
        mask = (columns < lengths[:, None]).long()
        low = self.dtype != torch.float32
        with torch.autocast(ids.device.type, self.dtype, enabled=low):
            return self._answer(ids, mask, types).float()

    def _train(self, training: bool) -> None:
        if self.model.training != training:  # a walk over all modules, in every step
            self.model.train(training)

    def collect(self, *, accumulate: bool) -> None:
        """Called after each backward pass: put all gradients where the optimizer looks."""

    def filled(self) -> None:
        """Called where gradients were added to without a forward pass of this object."""

    def after_step(self) -> None:
        """Called after each step of the optimizer: forget gradients, renew copies."""
        for parameter in self.model.parameters():
            parameter.grad = None

    def half_done(self) -> None:
        """Called before training goes on from loaded weights."""

    def full_precision(self) -> None:
        """Compute in float32 from here on."""
        self.dtype = torch.float32


class FastCompute(Compute):
    """The fast encoder under the family's own head."""

    is_fast = True

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        inner = unwrap(model)
        self._embedding: Any = word_embedding_of(inner)
        self._whole: Tensor | None = None
        self._rows: RowGradient | None = None
        self._shadow: MixedPrecision | None = None
        self._parameters: list[nn.Parameter] = []
        self._reads_tokens = reads_tokens(model)
        self.encoder = _encoder(inner, self._lookup)

    def prepare(self, dtype: torch.dtype, device: torch.device, *, checkpointing: bool) -> None:
        self.dtype, self.device = dtype, device
        self.model.to(device)  # pyright: ignore[reportArgumentType]
        self.encoder.prepare(dtype, device, checkpointing=checkpointing)
        self._parameters = list(self.model.parameters())  # a walk over all modules: not each step
        weight = self._embedding.weight
        self._rows = RowGradient(weight) if weight.requires_grad else None
        self._shadow = self._make_shadow(dtype)
        self.encoder.mixed_precision = self._shadow
        self.half_done()

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

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        read = self.first(ids, lengths, training=training, types=types)
        return self.head(read, training=training)

    def first(
        self, ids: Tensor, lengths: Tensor, *, training: bool = False, types: Tensor | None = None
    ) -> Tensor:
        """What the head reads, in float32: the first token [B, H], or every one [B, L, H]."""
        self._train(training)  # before the body computes: adapters have a dropout of their own
        hidden = self.encoder.forward(ids, lengths, training=training, types=types)
        return (hidden if self._reads_tokens else hidden[:, 0]).float()

    def head(self, first: Tensor, *, training: bool) -> Tensor:
        """Logits from what the head reads."""
        self._train(training)
        return head_logits(self.model, first)

    def collect(self, *, accumulate: bool) -> None:
        if self._shadow is not None:
            self._shadow.collect(accumulate=accumulate)

    def filled(self) -> None:
        if self._rows is not None:
            self._rows.fill()

    def after_step(self) -> None:
        for parameter in self._parameters or self.model.parameters():
            if parameter is self._embedding.weight and self._rows is not None:
                continue
            if self._shadow is None or not self._shadow.owns(parameter):
                parameter.grad = None
        if self._rows is not None:
            self._rows.zero()
        self.half_done()

    def half_done(self) -> None:
        if self._shadow is not None:
            self._shadow.refresh()

    def full_precision(self) -> None:
        self.dtype = torch.float32
        shadow, self._shadow, self.encoder.mixed_precision = self._shadow, None, None
        if shadow is not None:
            shadow.release()
        self.encoder.prepare(torch.float32, self.device, checkpointing=False)

    def _lookup(self, ids: Tensor) -> Tensor:
        if self._rows is not None and torch.is_grad_enabled():
            return self._rows.lookup(ids)
        return self._embedding(ids)

    def _make_shadow(self, dtype: torch.dtype) -> MixedPrecision | None:
        if dtype == torch.float32:
            return None
        groups = [
            group
            for group in self.encoder.matrices()
            if all(layer.weight.requires_grad and layer.bias is not None for layer in group)
        ]
        if not groups:
            return None
        weights: list[list[Any]] = [[layer.weight for layer in group] for group in groups]
        biases: list[list[Any]] = [[layer.bias for layer in group] for group in groups]
        return MixedPrecision(weights + biases, dtype)


def _encoder(inner: PreTrainedModel, lookup: Any) -> FastEncoder:
    from transformers.activations import ACT2FN

    config: Any = inner.config
    family, body = family_of(config), body_of(inner)
    embeddings: Any = body.get_submodule("embeddings")
    layers: Any = body.get_submodule(family.layers)
    names = family.post_norm_block
    order = ("query", "key", "value", "attention_out", "attention_norm", "up", "down")
    order += ("output_norm",)

    def embed(ids: Tensor, types: Tensor | None) -> Tensor:
        start = family.position_offset
        fixed = embeddings.position_embeddings.weight[start : start + ids.shape[1]]
        if not hasattr(embeddings, "token_type_embeddings"):
            return lookup(ids) + fixed
        kinds = embeddings.token_type_embeddings.weight
        fixed = fixed + (kinds[0] if types is None else embedding(types, kinds))
        return lookup(ids) + fixed

    distil = family.name == "distilbert"
    return FastEncoder(
        embed,
        tuned_norm(embeddings.LayerNorm),
        getattr(body, "embeddings_project", None),
        [
            Block(*(tuned_norm(layer.get_submodule(names[part])) for part in order))
            for layer in layers
        ],
        config.num_attention_heads,
        ACT2FN[config.activation if distil else config.hidden_act],
        (config.dropout, config.attention_dropout)
        if distil
        else (config.hidden_dropout_prob, config.attention_probs_dropout_prob),
        cls_only=not reads_tokens(inner),
        drop_attended=not distil,
    )


def _plain(inner: PreTrainedModel) -> bool:
    """No setting that changes the standard block."""
    config: Any = inner.config
    return getattr(config, "position_embedding_type", "absolute") in (
        "absolute",
        None,
    ) and not getattr(config, "is_decoder", False)
