"""Attention in plain operations, left to autograd where a gradient is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from warmstart.models.fast.dropout import drop


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Multi-head attention of query [B, Q, H] over key and value [B, L, H]: [B, Q, H].

    Args:
        bias: what is added to the scaled scores, [B, 1, 1, L] (see `padding_bias`).
        mask: which weights are kept in dropout, [B, heads, Q, L]; the result is not yet scaled.
    """
    (batch, queries, width), length = query.shape, key.shape[1]
    size = width // heads
    query = query.view(batch, queries, heads, size).transpose(1, 2)
    key = key.view(batch, length, heads, size).permute(0, 2, 3, 1)
    value = value.view(batch, length, heads, size).transpose(1, 2)
    scores = torch.matmul(query, key)
    scores = scores * size**-0.5 if bias is None else torch.add(bias, scores, alpha=size**-0.5)
    # in float32: the 16-bit softmax of torch takes four times as long for rows this short
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    context = torch.matmul(drop(weights, mask), value)
    return context.transpose(1, 2).reshape(batch, queries, width)


def padding_bias(lengths: Tensor, length: int, dtype: torch.dtype) -> Tensor | None:
    """0 where a key is a token, very negative where it is padding: [B, 1, 1, L]; on a CPU None
    where nothing is padded."""
    padded = torch.arange(length, device=lengths.device) >= lengths[:, None]
    if lengths.device.type == "cpu" and not padded.any():
        return None
    bias = torch.zeros(padded.shape, dtype=dtype, device=lengths.device)
    return bias.masked_fill_(padded, torch.finfo(dtype).min / 2)[:, None, None, :]
