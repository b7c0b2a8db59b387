"""Attention of the first token alone: what the last layer of a classifier computes.

One query a row needs neither the keys nor the values of the other tokens. With q the query and
W_k, b_k, W_v, b_v the projections, q (W_k x_t + b_k) = (q W_k) x_t + c with a c that softmax does
not see, and sum_t a_t (W_v x_t + b_v) = W_v sum_t a_t x_t + b_v sum_t a_t: the products over all
tokens become products over one token and each head. Exact in real numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from warmstart.models.adapted import Merged
from warmstart.models.halves import Dense, Dropped, Linear, Weighed, norm, norm_back


def _by_head(matrix: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Keys' and values' half of a joint projection [2 H, H], each as [heads, size, H]."""
    key, value = matrix.view(2, heads, -1, matrix.shape[1])
    return key, value


class _FirstAttention(Function):
    """norm(x + dropout(out(attention(x)))) for the first token of every row."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, half: Any, moved: Tensor | None
    ) -> Tensor:
        eps, query, joint, out, weighed, dropped = half
        (batch, length, width), heads = x.shape, weighed.heads
        of_key, of_value = _by_head(joint.weight[0], heads)
        first = x[:, 0].contiguous()
        asking = query(first).view(batch, heads, -1).transpose(0, 1)
        asked = torch.bmm(asking, of_key).transpose(0, 1).contiguous()
        scores = torch.bmm(asked, x.transpose(1, 2)).view(batch, heads, 1, length)
        soft, kept = weighed.weights(scores)
        kept = kept.view(batch, heads, length)
        seen = torch.bmm(kept, x).mul_(weighed.dropped.factor)
        share = kept.sum(-1, keepdim=True).mul_(weighed.dropped.factor)
        context = torch.bmm(seen.transpose(0, 1), of_value.transpose(1, 2)).transpose(0, 1)
        context = context + share * joint.bias[0][width:].view(heads, -1)
        context = context.reshape(batch, width)
        added = torch.add(first, dropped.keep_(out(context)), alpha=dropped.factor)
        y, *moments = norm(added, weight, bias, eps)
        ctx.save_for_backward(
            x, weight, bias, first, asking, asked, soft, kept, seen, share, context, added, *moments
        )
        ctx.half = half
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, *saved = ctx.saved_tensors
        first, asking, asked, soft, kept, seen, share, context, added, *moments = saved
        _, query, joint, out, weighed, dropped = ctx.half
        (batch, _, width), heads, factor = x.shape, weighed.heads, weighed.dropped.factor
        of_key, of_value = _by_head(joint.weight[0], heads)
        key_home, value_home = _by_head(joint.weight[1], heads)
        below, of_weight, of_bias = norm_back(grads[0], added, moments, weight, bias)
        attended = dropped.kept(below)
        over = out.back(attended, context).view(batch, heads, -1)
        joint.bias[1][:width].zero_()
        joint.bias[1][width:].copy_((over * share).sum(0).view(-1))
        by_head = over.transpose(0, 1)
        torch.bmm(by_head.transpose(1, 2), seen.transpose(0, 1), out=value_home)
        seeing = torch.bmm(by_head, of_value).transpose(0, 1).contiguous().mul_(factor)
        whole = (over * joint.bias[0][width:].view(heads, -1)).sum(-1, keepdim=True)
        scores = torch.bmm(seeing, x.transpose(1, 2)).add_(whole, alpha=factor)
        scores = weighed.scores_back(scores.view(soft.shape), soft).view(kept.shape)
        asked_back = torch.bmm(scores, x).transpose(0, 1)
        torch.bmm(asking.transpose(1, 2), asked_back, out=key_home)
        asking_back = torch.bmm(asked_back, of_key.transpose(1, 2)).transpose(0, 1)
        asking_back = asking_back.reshape(batch, width)
        joint.settle()
        below = query.back(asking_back, first, below)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None, None
        both = torch.cat([kept, scores], 1).transpose(1, 2)
        under = torch.bmm(both, torch.cat([seeing, asked], 1))
        under[:, 0] += below
        return under, of_weight, of_bias, None, None


def first_attention(
    x: Tensor,
    layer_norm: nn.LayerNorm,
    query: Linear,
    joint: Dense | Merged,
    out: Linear,
    weighed: Weighed,
    dropped: Dropped,
    moved: Tensor | None = None,
) -> Tensor:
    """The first half of a layer, from x [B, L, H] to the first tokens [B, H].

    Args:
        joint: key and value behind one another.
        weighed: its mask, where there is one, of [B, heads, 1, L].
        moved: anything that requires a gradient, where neither x nor the norm does.
    """
    half = (layer_norm.eps, query, joint, out, weighed, dropped)
    applied: Any = _FirstAttention.apply(x, layer_norm.weight, layer_norm.bias, half, moved)
    return applied
