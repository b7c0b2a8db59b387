"""The post-norm encoder (BERT, RoBERTa, ELECTRA, DistilBERT), read through the same parameters.

`transformers` holds the weights and saves them; this module only computes with them, faster:
one product for query, key and value, activations in the compute type throughout, dropout from a
pool, softmax of small blocks without a mask when nothing is padded, and, where only the first
token is read, a last layer that computes nothing else. Its slow twin is the transformers
model itself: in float32 both give the same numbers (tests/models/test_fast.py).

Architecture: Devlin et al. 2018, "BERT"; post-layer-norm as in Vaswani et al. 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN

from warmstart.models.architectures import body_of, family_of
from warmstart.models.fast.backward import (
    Attention,
    ClsAttention,
    FeedForward,
    Linear,
    ScaledSoftmax,
    sublayer,
)
from warmstart.models.fast.block import Block, attend, padding_bias, tuned_norm
from warmstart.models.fast.dropout import DropoutMask, DropoutPool, drop, drop_add
from warmstart.models.fast.lora import AdaptedBlock, MergedLinear, drop_rates
from warmstart.models.fast.mixed_precision import MixedPrecision, mixed_linear
from warmstart.models.head_layers import reads_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Masks = tuple[Tensor | None, Tensor | None, Tensor | None]
ROWS = 64
Linears = list[Linear | MergedLinear]


class FastEncoder:
    """Computes the hidden states of a post-norm encoder.

    Args:
        model: the transformers model inside, whose parameters are read in place.
        lookup: (ids [B, L]) -> their word embeddings [B, L, H].
    """

    def __init__(self, model: PreTrainedModel, lookup: Callable[[Tensor], Tensor]) -> None:
        config: Any = model.config
        family, body = family_of(config), body_of(model)
        distil = family.name == "distilbert"
        self._embeddings: Any = body.get_submodule("embeddings")
        self._lookup, self._first_position = lookup, family.position_offset
        self.embedding_norm: nn.LayerNorm | None = tuned_norm(self._embeddings.LayerNorm)
        """After the embeddings; None: neither norm nor dropout there."""
        self.project = getattr(body, "embeddings_project", None)
        """Maps embeddings to the hidden width where they differ (ELECTRA)."""
        paths = family.post_norm_block.values()
        self.blocks = [
            Block(*(tuned_norm(layer.get_submodule(path)) for path in paths))
            for layer in body.get_submodule(family.layers).children()
        ]
        self.heads = config.num_attention_heads
        self.activation = ACT2FN[config.activation if distil else config.hidden_act]
        self._is_gelu = getattr(self.activation, "act", self.activation) is F.gelu
        self.dropout: tuple[float, float] = (
            (config.dropout, config.attention_dropout)
            if distil
            else (config.hidden_dropout_prob, config.attention_probs_dropout_prob)
        )
        """On hidden states, and on attention weights."""
        self.drop_attended = not distil
        """Whether dropout follows attention's output."""
        self.cls_only = not reads_tokens(model)
        """The last layer computes the first token alone."""
        self.dtype = torch.float32
        self.manual_backward = True
        self.gradient_checkpointing = False
        self.mixed_precision: MixedPrecision | None = None
        self._pools: dict[float, DropoutPool] = {}
        self._frozen: dict[int, Tensor] = {}
        self._adapted: dict[tuple[int, bool], AdaptedBlock | None] = {}

    def prepare(self, dtype: torch.dtype, device: torch.device, *, checkpointing: bool) -> None:
        """Choose the compute type; forgets cached casts of frozen weights."""
        self.dtype, self.gradient_checkpointing = dtype, checkpointing
        self._frozen.clear()
        self._adapted.clear()
        rates = {p for p in self.dropout if p > 0}
        rates |= {p for block in self.blocks for p in drop_rates(block.matrices)}
        self._pools = {p: DropoutPool(p, dtype, device) for p in sorted(rates)}

    def with_blocks(self, blocks: list[Block], **changes: Any) -> FastEncoder:
        """The same encoder over other blocks, with attributes replaced; to be prepared."""
        part = copy.copy(self)
        part._frozen, part._adapted = {}, {}
        vars(part).update(changes, blocks=blocks)
        return part

    def embed(self, ids: Tensor, types: Tensor | None) -> Tensor:
        """Summed embeddings [B, L, H] of ids [B, L] and token types [B, L], before the norm."""
        embeddings, start = self._embeddings, self._first_position
        fixed = embeddings.position_embeddings.weight[start : start + ids.shape[1]]
        if hasattr(embeddings, "token_type_embeddings"):
            kinds = embeddings.token_type_embeddings.weight
            fixed = fixed + (kinds[0] if types is None else F.embedding(types, kinds))
        return self._lookup(ids) + fixed

    def begin_epoch(self, seed: int) -> None:
        """New dropout masks."""
        for index, pool in enumerate(self._pools.values()):
            pool.refill(seed * 31 + index)

    def begin_step(self, seed: int) -> None:
        """Make this step's dropout a function of `seed` alone."""
        for index, pool in enumerate(self._pools.values()):
            pool.begin_step(seed * 31 + index)

    def forward(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor:
        """Hidden states [B, L, H], or those of the first token [B, 1, H] when `cls_only`.

        Args:
            ids, types: token ids and token types [B, L], padded on the right; no types: all 0.
            lengths: tokens in each row [B].
        """
        batch, length = ids.shape
        bias = padding_bias(lengths, length, self.dtype)
        hidden = self.embed(ids, types).to(self.dtype)
        if self.embedding_norm is not None:
            hidden = self.norm(hidden, self.embedding_norm)
            if training and (pool := self._pools.get(self.dropout[0])):
                hidden = drop(hidden, pool.mask(*hidden.shape)) * pool.scale
        if self.project is not None:
            hidden = self.dense(self.project, hidden)
        if hidden.device.type == "cpu" and not training and not torch.is_grad_enabled():
            return self.infer(hidden, bias)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            queries = 1 if self.cls_only and index == last else length
            masks = self._masks(batch, queries, length, hidden.shape[-1], training)
            linears = self._linears_of(block, hidden, queries < length) if training else None
            layer = partial(self._sublayers, *linears) if linears else self._layer
            if self.gradient_checkpointing and training:
                layer = partial(checkpoint, layer, use_reentrant=False)
            hidden: Any = layer(block, hidden, bias, queries, masks)
        return hidden

    def infer(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """All layers over the embedded tokens [B, L, H] without gradients: products of few shapes.

        For 16 bits oneDNN prepares a kernel for every shape of a product and keeps it: for the
        widths of the batches of an ordinary file these are more than 100 MB. Here the tokens of a
        batch stand in one table that is filled up to a multiple of 64 rows, so that almost all
        batches are alike; memory that a batch has left fits the next, in 32 bits too. The slow twin
        is `_layer` (tests/models/test_fast_inference.py).
        """
        batch, length, width = hidden.shape

        def by_text(part: Tensor, columns: int) -> Tensor:
            return part[: batch * columns].view(batch, columns, -1)

        rows, queries = _pad_rows(hidden.reshape(-1, width)), length
        for index, block in enumerate(self.blocks):
            if self.cls_only and index == len(self.blocks) - 1:
                queries = 1
            if queries == length:
                query, key, value = self.joint([block.query, block.key, block.value], rows)
            else:
                key, value = self.joint([block.key, block.value], rows)
                rows = _pad_rows(by_text(rows, length)[:, :queries].flatten(0, 1))
                query = self.dense(block.query, rows)
            query = by_text(query, queries)
            key, value = by_text(key, length), by_text(value, length)
            context = _pad_rows(attend(query, key, value, self.heads, bias).flatten(0, 1))
            attended = self.dense(block.attention_output, context)
            rows = self.norm(rows + attended, block.attention_norm)
            inner = self.activation(self.dense(block.up, rows))
            rows = self.norm(rows + self.dense(block.down, inner), block.norm)
        return by_text(rows, queries)

    def dense(self, module: nn.Module, x: Tensor) -> Tensor:
        """A linear layer, plain or wrapped by a PEFT low-rank adapter, in the compute type."""
        if isinstance(module, nn.Linear):
            return self._linear(x, [module])
        lora: Any = module
        y = self.dense(lora.base_layer, x)
        for name in lora.active_adapters:
            low = F.linear(lora.lora_dropout[name](x), self._cast(lora.lora_A[name].weight))
            change = F.linear(low, self._cast(lora.lora_B[name].weight))
            y = torch.add(y, change, alpha=lora.scaling[name])
        return y

    def _layer(
        self, block: Block, hidden: Tensor, bias: Tensor | None, queries: int, masks: Masks
    ) -> Tensor:
        attention_mask, output_mask, down_mask = masks
        scale = self._scale(0)
        if queries == hidden.shape[1]:
            query, key, value = self.joint([block.query, block.key, block.value], hidden)
        else:
            query = self.dense(block.query, hidden[:, :queries])
            key, value = self.joint([block.key, block.value], hidden)
        context = attend(query, key, value, self.heads, bias, attention_mask)
        context = context if attention_mask is None else context * self._scale(1)
        attended = self.dense(block.attention_output, context)
        hidden = drop_add(hidden[:, :queries], attended, output_mask, scale)
        hidden = self.norm(hidden, block.attention_norm)
        inner = self.activation(self.dense(block.up, hidden))
        hidden = drop_add(hidden, self.dense(block.down, inner), down_mask, scale)
        return self.norm(hidden, block.norm)

    def _sublayers(
        self,
        linears: Linears,
        anchor: Tensor | None,
        block: Block,
        hidden: Tensor,
        bias: Tensor | None,
        queries: int,
        masks: Masks,
    ) -> Tensor:
        """As `_layer`, by functions that know their own gradients."""
        batch, length, width = hidden.shape
        on_weights, on_output, on_down = (
            DropoutMask(mask, self._scale(which))
            for mask, which in zip(masks, (1, 0, 0), strict=True)
        )
        softmax = ScaledSoftmax(self.heads, (width // self.heads) ** -0.5, bias, on_weights)
        *parts, up, down = linears
        kind, norm = ClsAttention if queries < length else Attention, block.attention_norm
        rows = sublayer(kind, hidden, norm, *parts, softmax, on_output, anchor=anchor)
        rows = sublayer(FeedForward, rows, block.norm, up, down, on_down, anchor=anchor)
        return rows.view(batch, queries, width)

    def _linears_of(
        self, block: Block, hidden: Tensor, cls_only: bool
    ) -> tuple[Linears, Tensor | None] | None:
        """The layers of a block whose gradients can be computed by hand, and, of frozen ones with
        low-rank updates, one of the parameters that they train outside of autograd."""
        if not (self.manual_backward and self._is_gelu and torch.is_grad_enabled()):
            return None
        if hidden.device.type != "cpu":
            return None
        if self.mixed_precision is not None:
            groups = block.groups(cls_only=cls_only)
            linears = [self.mixed_precision.dense(group) for group in groups]
            trained = block.norm.weight.requires_grad and None not in linears
            return (linears, None) if trained else None  # pyright: ignore[reportReturnType]
        key = id(block), cls_only
        if key not in self._adapted:
            self._adapted[key] = AdaptedBlock.of(block, self._cast, cls_only=cls_only)
        adapted = self._adapted[key]
        reaches = hidden.requires_grad or block.norm.weight.requires_grad
        if adapted is None or (adapted.anchor is None and not reaches):
            return None
        return adapted.for_step(self._pools, *hidden.shape[:2]), adapted.anchor

    def joint(self, parts: list[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
        """Several linear layers of one input; plain ones as one product."""
        plain = [part for part in parts if isinstance(part, nn.Linear)]
        if len(plain) == len(parts):
            return self._linear(x, plain).chunk(len(parts), dim=-1)
        return tuple(self.dense(part, x) for part in parts)

    def _linear(self, x: Tensor, modules: list[nn.Linear]) -> Tensor:
        """Several linear layers over the same input as one product."""
        if self.mixed_precision is not None and (dense := self.mixed_precision.dense(modules)):
            if torch.is_grad_enabled():
                return mixed_linear(x, dense)
            return F.linear(x, dense.weight.value, dense.bias.value)
        if len(modules) == 1:
            module = modules[0]
            bias = None if module.bias is None else self._cast(module.bias)
            return F.linear(x, self._cast(module.weight), bias)
        weight = torch.cat([self._cast(module.weight) for module in modules])
        bias = torch.cat([self._cast(module.bias) for module in modules])
        return F.linear(x, weight, bias)

    def matrices(self) -> list[list[nn.Linear]]:
        """The linear layers in the groups in which they are computed."""
        last = len(self.blocks) - 1
        return [
            group
            for index, block in enumerate(self.blocks)
            for group in block.groups(cls_only=self.cls_only and index == last)
            if all(isinstance(module, nn.Linear) for module in group)
        ]

    def _cast(self, weight: Tensor) -> Tensor:
        if weight.dtype == self.dtype:
            return weight
        if weight.requires_grad:
            return weight.to(self.dtype)
        if id(weight) not in self._frozen:
            self._frozen[id(weight)] = weight.to(self.dtype)
        return self._frozen[id(weight)]

    def norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """A layer norm in the type of its input, computed in float32."""
        if x.device.type == "cpu":
            return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        y = F.layer_norm(x.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return y.to(x.dtype)

    def _masks(self, batch: int, queries: int, length: int, width: int, training: bool) -> Masks:
        if not training:
            return None, None, None
        hidden, attention = (self._pools.get(p) for p in self.dropout)
        return (
            attention.mask(batch, self.heads, queries, length) if attention else None,
            hidden.mask(batch, queries, width) if hidden and self.drop_attended else None,
            hidden.mask(batch, queries, width) if hidden else None,
        )

    def _scale(self, which: int) -> float:
        return 1.0 / (1.0 - self.dropout[which])


def _pad_rows(rows: Tensor) -> Tensor:
    """The rows [n, H] and enough zeros below them for a multiple of `ROWS`."""
    missing = -len(rows) % ROWS
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows
