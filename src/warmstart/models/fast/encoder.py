"""The post-norm encoder (BERT, RoBERTa, ELECTRA, DistilBERT), read through the same parameters.

`transformers` holds the weights and saves them; this module only computes with them, faster:
one product for query, key and value, activations in the compute type throughout, dropout from a
pool, softmax of small blocks without a mask when nothing is padded, and, where only the first
token is asked for, a last layer that computes nothing else. Its slow twin is the transformers
model itself: in float32 both give the same numbers (tests/models/test_fast.py).

Architecture: Devlin et al. 2018, "BERT"; post-layer-norm as in Vaswani et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from warmstart.models.architectures import body_of, family_of, layers_of, word_embedding_of
from warmstart.models.fast.attention import attend, padding_bias
from warmstart.models.fast.backward import (
    Dropped,
    Weighed,
    attention,
    dense_of,
    feed_forward,
    first_attention,
)
from warmstart.models.fast.block import Block
from warmstart.models.fast.dropout import DropoutPool, drop, drop_add
from warmstart.models.fast.inference import flat_layers
from warmstart.models.fast.lora import AdaptedBlock, drop_rates
from warmstart.models.fast.mixed_precision import Shadow, shadow_linear

Masks = tuple[Tensor | None, Tensor | None, Tensor | None]


class FastEncoder:
    """Computes the hidden states of a post-norm encoder.

    Args:
        embed: (ids [B, L], token types [B, L] or None) -> summed embeddings [B, L, H], no norm.
        embedding_norm: the norm after the embeddings.
        project: maps embeddings to the hidden width where they differ (ELECTRA), or None.
        blocks: the layers in order.
        heads: attention heads per layer.
        activation: the function between the two feed-forward products.
        dropout: probability on hidden states and on attention weights, as (hidden, attention).
        first_only: the last layer computes the first token alone.
        drop_attended: whether dropout follows attention's output (not so in DistilBERT).
    """

    def __init__(
        self,
        embed: Callable[[Tensor, Tensor | None], Tensor],
        embedding_norm: nn.LayerNorm,
        project: nn.Module | None,
        blocks: list[Block],
        heads: int,
        activation: Callable[[Tensor], Tensor],
        dropout: tuple[float, float],
        *,
        first_only: bool,
        drop_attended: bool = True,
    ) -> None:
        self.embed, self.embedding_norm, self.project = embed, embedding_norm, project
        self.blocks, self.heads, self.activation = blocks, heads, activation
        self.dropout, self.first_only, self.drop_attended = dropout, first_only, drop_attended
        self.dtype = torch.float32
        self.by_halves = True
        self._is_gelu = getattr(activation, "act", activation) is F.gelu
        self.gradient_checkpointing = False
        self.shadow: Shadow | None = None
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
        """Hidden states [B, L, H], or those of the first token [B, 1, H] when `first_only`.

        Args:
            ids, types: token ids and token types [B, L], padded on the right; no types: all 0.
            lengths: tokens in each row [B].
        """
        batch, length = ids.shape
        bias = padding_bias(lengths, length, self.dtype)
        hidden = self.norm(self.embed(ids, types).to(self.dtype), self.embedding_norm)
        hidden = self._drop_hidden(hidden, training)
        if self.project is not None:
            hidden = self.dense(self.project, hidden)
        if hidden.device.type == "cpu" and not training and not torch.is_grad_enabled():
            return flat_layers(self, hidden, bias)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            queries = 1 if self.first_only and index == last else length
            masks = self._masks(batch, queries, length, hidden.shape[-1], training)
            linears = self._linears_of(block, hidden, queries < length) if training else None
            layer = partial(self._two_halves, *linears) if linears else self._layer
            if self.gradient_checkpointing and training:
                layer = partial(checkpoint, layer, use_reentrant=False)
            hidden: Any = layer(block, hidden, bias, queries, masks)
        return hidden

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
        context = self._attend(block, hidden, bias, queries, attention_mask)
        attended = self.dense(block.attention_output, context)
        hidden = drop_add(hidden[:, :queries], attended, output_mask, scale)
        hidden = self.norm(hidden, block.attention_norm)
        inner = self.activation(self.dense(block.up, hidden))
        hidden = drop_add(hidden, self.dense(block.down, inner), down_mask, scale)
        return self.norm(hidden, block.norm)

    def _two_halves(
        self,
        linears: list[Any],
        moved: Tensor | None,
        block: Block,
        hidden: Tensor,
        bias: Tensor | None,
        queries: int,
        masks: Masks,
    ) -> Tensor:
        """As `_layer`, by functions that know their own gradients."""
        attention_mask, output_mask, down_mask = masks
        batch, length, width = hidden.shape
        weighed = Weighed(
            self.heads,
            (width // self.heads) ** -0.5,
            bias,
            Dropped(attention_mask, self._scale(1)),
        )
        *parts, up, down = linears
        half: Any = first_attention if queries < length else attention
        dropped = Dropped(output_mask, self._scale(0))
        flat = half(hidden, block.attention_norm, *parts, weighed, dropped, moved)
        dropped = Dropped(down_mask, self._scale(0))
        flat = feed_forward(flat, block.norm, up, down, dropped, moved)
        return flat.view(batch, queries, width)

    def _linears_of(
        self, block: Block, hidden: Tensor, first: bool
    ) -> tuple[list[Any], Tensor | None] | None:
        """The linear layers of a block that can be computed by halves, and one of the parameters
        that they train outside of autograd where they are frozen ones with changes."""
        if not (self.by_halves and self._is_gelu and torch.is_grad_enabled()):
            return None
        if hidden.device.type != "cpu":
            return None
        if self.shadow is None:
            return self._adapted_of(block, hidden, first)
        dense = dense_of(block, self.shadow, first=first)
        return (dense, None) if dense else None

    def _adapted_of(
        self, block: Block, hidden: Tensor, first: bool
    ) -> tuple[list[Any], Tensor | None] | None:
        key = id(block), first
        if key not in self._adapted:
            self._adapted[key] = AdaptedBlock.of(block, self._cast, first=first)
        found = self._adapted[key]
        if found is None:
            return None
        if found.moved is None and not (hidden.requires_grad or block.norm.weight.requires_grad):
            return None
        return found.drawn(self._pools, *hidden.shape[:2]), found.moved

    def _attend(
        self, block: Block, hidden: Tensor, bias: Tensor | None, queries: int, mask: Tensor | None
    ) -> Tensor:
        if queries == hidden.shape[1]:
            query, key, value = self.several([block.query, block.key, block.value], hidden)
        else:
            query = self.dense(block.query, hidden[:, :queries])
            key, value = self.several([block.key, block.value], hidden)
        context = attend(query, key, value, self.heads, bias, mask)
        return context if mask is None else context * self._scale(1)

    def several(self, parts: list[nn.Module], x: Tensor) -> tuple[Tensor, ...]:
        """Several linear layers of one input; plain ones as one product."""
        plain = [part for part in parts if isinstance(part, nn.Linear)]
        if len(plain) == len(parts):
            return self._linear(x, plain).chunk(len(parts), dim=-1)
        return tuple(self.dense(part, x) for part in parts)

    def _linear(self, x: Tensor, modules: list[nn.Linear]) -> Tensor:
        """Several linear layers over the same input as one product."""
        if self.shadow is not None:
            weight = self.shadow.get(*(module.weight for module in modules))
            bias = self.shadow.get(*(module.bias for module in modules))
            if weight and bias:
                by_hand = torch.is_grad_enabled()
                return (
                    shadow_linear(x, weight, bias) if by_hand else F.linear(x, weight[0], bias[0])
                )
        if len(modules) == 1:
            module = modules[0]
            bias = None if module.bias is None else self._cast(module.bias)
            return F.linear(x, self._cast(module.weight), bias)
        weight = torch.cat([self._cast(module.weight) for module in modules])
        bias = torch.cat([self._cast(module.bias) for module in modules])
        return F.linear(x, weight, bias)

    def matrices(self) -> list[list[nn.Linear]]:
        """The linear layers in the groups in which they are computed."""
        groups: list[list[nn.Linear]] = []
        for index, block in enumerate(self.blocks):
            joint = [block.query, block.key, block.value]
            last = index == len(self.blocks) - 1
            parts = [[block.query], joint[1:]] if last and self.first_only else [joint]
            parts += [[block.attention_output], [block.up], [block.down]]
            for part in parts:
                plain = [module for module in part if isinstance(module, nn.Linear)]
                if len(plain) == len(part):
                    groups.append(plain)
        return groups

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

    def _drop_hidden(self, hidden: Tensor, training: bool) -> Tensor:
        pool = self._pools.get(self.dropout[0]) if training else None
        return drop(hidden, pool.mask(*hidden.shape)) * pool.scale if pool else hidden

    def _scale(self, which: int) -> float:
        return 1.0 / (1.0 - self.dropout[which])


# Whether the fast encoder, which reads parameters in place, can express what a method changed.


def readable(model: Any) -> bool:
    """True for plain blocks and for plain low-rank changes of them; `model` is unwrapped."""
    family = family_of(model.config)
    embedding = word_embedding_of(model)
    if type(embedding) is not nn.Embedding:
        return False
    for block in layers_of(model):
        for part, path in family.post_norm_block.items():
            module = block.get_submodule(path)
            fits = _norm(module) if part.endswith("norm") else _linear(module)
            if not fits:
                return False
    body: Any = body_of(model)
    norm = body.get_submodule("embeddings.LayerNorm")
    return type(tuned_norm(norm)) is nn.LayerNorm


def tuned_norm(module: nn.Module) -> Any:
    """The trained copy inside a norm that PEFT's LN tuning wraps, or the module itself."""
    layers: Any = getattr(module, "ln_tuning_layers", None)
    if layers is None:
        return module
    wrapper: Any = module
    if wrapper.disable_adapters or wrapper.merged or len(wrapper.active_adapters) != 1:
        return wrapper.base_layer
    return layers[wrapper.active_adapters[0]]


def _norm(module: nn.Module) -> bool:
    return type(tuned_norm(module)) is nn.LayerNorm


def _linear(module: Any) -> bool:
    if type(module) is nn.Linear:
        return True
    if not hasattr(module, "lora_A") or type(getattr(module, "base_layer", None)) is not nn.Linear:
        return False
    return not (
        module.lora_variant  # DoRA and its like compute something else
        or module.disable_adapters
        or module.merged
        or any(part.bias is not None for part in module.lora_B.values())
        or set(module.active_adapters) - set(module.lora_A)
    )
