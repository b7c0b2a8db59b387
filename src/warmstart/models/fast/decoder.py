"""One more token of each row through a decoder of Llama's kind, by the modules of transformers.

At one token a row most of the time of a small decoder goes into the calls around its products. This
is the same computation in a fraction of the calls: the linear layers (with their adapters, where
there are any) are those of the model, and what stands between them is written out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention

CLASSES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
"""Classes of transformers whose blocks are: RMS norm, attention with rotary positions, RMS norm,
gated feed-forward."""
KEPT = "Kept"
"""The layers of a cache that hold every token; see `models.sampling.decoding`."""


class FastDecoder:
    """A step of a model with the keys and values of its cache, which `DynamicCache` keeps."""

    def __init__(self, model: Any) -> None:
        self._model, self._body = model, model.model
        self._layers = [_Layer(layer) for layer in self._body.layers]

    def begin(self, **named: Any) -> Tensor:
        """Logits [B, V] in float32 behind the last of several tokens, which the model's own forward
        pass computes from what is `named`; the output matrix is multiplied by the last alone."""
        states = self._body(**named).last_hidden_state[:, -1]
        return self._model.lm_head(states.contiguous()).float()

    def __call__(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        """Logits [B, V] in float32.

        Args:
            ids: the token of each row [B].
            positions: its position [B].
            mask: [B, L] 1 where a kept token or this one may be looked at; None: everywhere.
            cache: keys and values of the tokens before, to which these are added.
        """
        body = self._body
        states = body.embed_tokens(ids)
        cos, sin = body.rotary_emb(states[:, None], positions[:, None])
        looked = None if mask is None else mask[:, None, None].bool()
        for number, layer in enumerate(self._layers):
            states = layer(states, cos, sin, looked, cache.layers[number])
        return self._model.lm_head(_normed(states, body.norm)).float()


class _Layer:
    """A block of the model."""

    def __init__(self, layer: Any) -> None:
        self._layer, attention = layer, layer.self_attn
        self._attention = attention
        self._size = attention.head_dim
        self._normed = hasattr(attention, "q_norm")

    def __call__(
        self, states: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, kept: Any
    ) -> Tensor:
        layer, attention, size = self._layer, self._attention, self._size
        rows = len(states)
        read = _normed(states, layer.input_layernorm)
        query = attention.q_proj(read).view(rows, -1, size)
        key = attention.k_proj(read).view(rows, -1, size)
        value = attention.v_proj(read).view(rows, -1, 1, size)
        if self._normed:
            query, key = _normed(query, attention.q_norm), _normed(key, attention.k_norm)
        heads = key.shape[1]
        turned = _turned(torch.cat([query, key], 1), cos, sin)
        query, key = turned[:, :-heads], turned[:, -heads:]
        keys, values = kept.update(key[:, :, None], value)
        # the queries that share a head of keys stand where several tokens would
        mixed = scaled_dot_product_attention(
            query.reshape(rows, heads, -1, size).to(keys.dtype), keys, values,
            attn_mask=mask, scale=attention.scaling,
        )  # fmt: skip
        states = states + attention.o_proj(mixed.reshape(rows, -1))
        return states + layer.mlp(_normed(states, layer.post_attention_layernorm))


def _normed(states: Tensor, norm: Any) -> Tensor:
    return rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of heads [B, n, size]; `cos` and `sin` are [B, 1, size]."""
    first, second = states.chunk(2, -1)
    return states * cos + torch.cat([-second, first], -1) * sin


def fast_decoder(model: Any, cache: Any) -> FastDecoder | None:
    """The fast step of a model of transformers; None where it is another computation: another
    architecture, a sliding window, layers that others have changed or hooked into."""
    if type(model).__name__ not in CLASSES:
        return None
    plain = all(type(layer).__name__ == KEPT for layer in cache.layers)
    norms = [model.model.norm]
    for layer in model.model.layers:
        attention = layer.self_attn
        norms += [layer.input_layernorm, layer.post_attention_layernorm]
        norms += [attention.q_norm, attention.k_norm] if hasattr(attention, "q_norm") else []
        plain = plain and not any(
            module._forward_hooks or module._forward_pre_hooks for module in (layer, attention)
        )
    plain = plain and all(type(norm).__name__.endswith("RMSNorm") for norm in norms)
    return FastDecoder(model) if plain else None
