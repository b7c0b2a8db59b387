"""The two sublayers of an encoder layer, each one autograd function with its own backward pass.

Left to autograd, a layer is some forty small nodes, and their dispatch costs as much as a tenth of
the products. Here every sublayer computes its gradients by hand: those of matrices go to their
places (see `mixed_precision`), the residual's is added by the product that follows it. The slow
twin is the same layer in `encoder.FastEncoder`, left to autograd (tests/models/test_backward.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import gelu

from warmstart.models.fast import ops
from warmstart.models.fast.dropout import DropoutMask
from warmstart.models.fast.lora import AdaptedLinear
from warmstart.models.fast.mixed_precision import Dense

Linear = Dense | AdaptedLinear
"""A linear layer that is trained itself, or frozen with low-rank updates beside it."""


def sublayer(
    kind: type[Function], x: Tensor, norm: nn.LayerNorm, *layers: Any, anchor: Tensor | None = None
) -> Tensor:
    """One of the kinds below over x, with what it computes by.

    Args:
        anchor: anything that requires a gradient, where neither x nor the norm does.
    """
    applied: Any = kind.apply(x, norm.weight, norm.bias, (norm.eps, *layers), anchor)
    return applied


class FeedForward(Function):
    """norm(x + dropout(down(gelu(up(x))))), from x [n, H] to [n, H].

    Its layers: up, down, and the `DropoutMask`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layers: Any, anchor: Tensor | None
    ) -> Tensor:
        eps, up, down, dropout = layers
        inner = up(x)
        active = gelu(inner)
        added = torch.add(x, dropout.drop_(down(active)), alpha=dropout.factor)
        y, *moments = ops.layer_norm(added, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, inner, active, added, *moments)
        ctx.layers = layers
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, inner, active, added, *moments = ctx.saved_tensors
        _, up, down, dropout = ctx.layers
        grad, weight_grad, bias_grad = ops.layer_norm_backward(
            grads[0], added, moments, weight, bias
        )
        inner_grad = ops.gelu_backward(down.backward(dropout(grad), active), inner)
        grad = up.backward(inner_grad, x, grad, needed=ctx.needs_input_grad[0])
        return grad, weight_grad, bias_grad, None, None


class ScaledSoftmax(NamedTuple):
    """What makes attention weights of scores: scores * scale + bias, softmax, dropout."""

    heads: int
    scale: float
    bias: Tensor | None
    dropout: DropoutMask

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Attention weights of scores [B, heads, queries, L]: float32, and dropped in 16 bits.

        In float32, because torch's 16-bit softmax takes four times as long for rows this short.
        """
        if self.bias is None:
            scaled = scores.float().mul_(self.scale)
        else:
            scaled = torch.add(self.bias, scores, alpha=self.scale).float()
        soft = torch.softmax(scaled, -1)
        return soft, self.dropout.drop_(soft.to(scores.dtype, copy=True))

    def backward(self, grad: Tensor, soft: Tensor) -> Tensor:
        """The gradient of the scores from that of the dropped weights, whose memory it takes."""
        scores_grad = ops.softmax_backward(self.dropout.drop_(grad).float(), soft)
        return torch.mul(scores_grad, self.scale, out=grad)


class Attention(Function):
    """norm(x + dropout(out(attention(x)))) with all positions as queries, from x [B, L, H] to
    [B * L, H].

    Its layers: query, key and value behind one another as one layer; the output's; the
    `ScaledSoftmax`, whose mask, where there is one, is [B, heads, L, L]; and the `DropoutMask`.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layers: Any, anchor: Tensor | None
    ) -> Tensor:
        eps, joint, out, softmax, dropout = layers
        (batch, length, width), heads = x.shape, softmax.heads
        size, rows = width // heads, x.view(-1, width)
        parts = joint(rows).view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4).contiguous()
        query, key, value = parts.view(3, batch * heads, length, size)
        scores = torch.bmm(query, key.transpose(1, 2)).view(batch, heads, length, length)
        soft, weights = softmax.forward(scores)
        attended = torch.bmm(weights.view(-1, length, length), value)
        context = torch.empty_like(x).view(batch, length, heads, size)
        attended = attended.view(batch, heads, length, size).transpose(1, 2)
        torch.mul(attended, softmax.dropout.factor, out=context)
        context = context.view(-1, width)
        added = torch.add(rows, dropout.drop_(out(context)), alpha=dropout.factor)
        y, *moments = ops.layer_norm(added, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, parts, soft, weights, context, added, *moments)
        ctx.layers = layers
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, parts, soft, weights, context, added, *moments = ctx.saved_tensors
        _, joint, out, softmax, dropout = ctx.layers
        (batch, length, width), heads = x.shape, softmax.heads
        size = width // heads
        query, key, value = parts.view(3, batch * heads, length, size)
        weights = weights.view(-1, length, length)
        grad, weight_grad, bias_grad = ops.layer_norm_backward(
            grads[0], added, moments, weight, bias
        )
        context_grad = out.backward(dropout(grad), context).view(batch, length, heads, size)
        attended_grad = torch.empty_like(query).view(batch, heads, length, size)
        torch.mul(context_grad.transpose(1, 2), softmax.dropout.factor, out=attended_grad)
        attended_grad = attended_grad.view(-1, length, size)
        parts_grad = torch.empty_like(parts).view(3, -1, length, size)
        torch.bmm(weights.transpose(1, 2), attended_grad, out=parts_grad[2])
        scores_grad = torch.bmm(attended_grad, value.transpose(1, 2)).view(soft.shape)
        scores_grad = softmax.backward(scores_grad, soft).view(-1, length, length)
        torch.bmm(scores_grad, key, out=parts_grad[0])
        torch.bmm(scores_grad.transpose(1, 2), query, out=parts_grad[1])
        parts_grad = parts_grad.view(3, batch, heads, length, size).permute(1, 3, 0, 2, 4)
        parts_grad = parts_grad.reshape(batch * length, 3 * width)
        needed = ctx.needs_input_grad[0]
        grad = joint.backward(parts_grad, x.view(-1, width), grad, needed=needed)
        return None if grad is None else grad.view(x.shape), weight_grad, bias_grad, None, None


# Attention of the first token alone: what the last layer of a classifier computes.
#
# One query a row needs neither the keys nor the values of the other tokens. With q the query and
# W_k, b_k, W_v, b_v the projections, q (W_k x_t + b_k) = (q W_k) x_t + c with a c that softmax does
# not see, and sum_t a_t (W_v x_t + b_v) = W_v sum_t a_t x_t + b_v sum_t a_t: the products over all
# tokens become products over one token and each head. Exact in real numbers.


def _by_head(matrix: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Keys' and values' half of a joint projection [2 H, H], each as [heads, size, H]."""
    key, value = matrix.view(2, heads, -1, matrix.shape[1])
    return key, value


class ClsAttention(Function):
    """norm(x + dropout(out(attention(x)))) for the first token of every row, from x [B, L, H] to
    [B, H].

    Its layers: the query's; key and value behind one another as one layer; the others as in
    `Attention`, the mask [B, heads, 1, L]. `query_key` is q W_k, `mixed` the weighted sum of the
    x_t, `total` that of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layers: Any, anchor: Tensor | None
    ) -> Tensor:
        eps, to_query, joint, out, softmax, dropout = layers
        (batch, length, width), heads = x.shape, softmax.heads
        key_matrix, value_matrix = _by_head(joint.weight.value, heads)
        cls = x[:, 0].contiguous()
        query = to_query(cls).view(batch, heads, -1).transpose(0, 1)
        query_key = torch.bmm(query, key_matrix).transpose(0, 1).contiguous()
        scores = torch.bmm(query_key, x.transpose(1, 2)).view(batch, heads, 1, length)
        soft, weights = softmax.forward(scores)
        weights = weights.view(batch, heads, length)
        mixed = torch.bmm(weights, x).mul_(softmax.dropout.factor)
        total = weights.sum(-1, keepdim=True).mul_(softmax.dropout.factor)
        context = torch.bmm(mixed.transpose(0, 1), value_matrix.transpose(1, 2)).transpose(0, 1)
        context = context + total * joint.bias.value[width:].view(heads, -1)
        context = context.reshape(batch, width)
        added = torch.add(cls, dropout.drop_(out(context)), alpha=dropout.factor)
        y, *moments = ops.layer_norm(added, weight, bias, eps)
        ctx.save_for_backward(
            x, weight, bias, cls, query, query_key, soft, weights, mixed, total, context, added,
            *moments,
        )  # fmt: skip
        ctx.layers = layers
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, *saved = ctx.saved_tensors
        cls, query, query_key, soft, weights, mixed, total, context, added, *moments = saved
        _, to_query, joint, out, softmax, dropout = ctx.layers
        (batch, _, width), heads, factor = x.shape, softmax.heads, softmax.dropout.factor
        key_matrix, value_matrix = _by_head(joint.weight.value, heads)
        key_grad, value_grad = _by_head(joint.weight.grad, heads)
        value_bias = joint.bias.value[width:].view(heads, -1)
        grad, weight_grad, bias_grad = ops.layer_norm_backward(
            grads[0], added, moments, weight, bias
        )
        context_grad = out.backward(dropout(grad), context).view(batch, heads, -1)
        joint.bias.grad[:width].zero_()
        joint.bias.grad[width:].copy_((context_grad * total).sum(0).view(-1))
        by_head = context_grad.transpose(0, 1)
        torch.bmm(by_head.transpose(1, 2), mixed.transpose(0, 1), out=value_grad)
        mixed_grad = torch.bmm(by_head, value_matrix).transpose(0, 1).contiguous().mul_(factor)
        total_grad = (context_grad * value_bias).sum(-1, keepdim=True)
        scores_grad = torch.bmm(mixed_grad, x.transpose(1, 2)).add_(total_grad, alpha=factor)
        scores_grad = softmax.backward(scores_grad.view(soft.shape), soft).view(weights.shape)
        query_key_grad = torch.bmm(scores_grad, x).transpose(0, 1)
        torch.bmm(query.transpose(1, 2), query_key_grad, out=key_grad)
        query_grad = torch.bmm(query_key_grad, key_matrix.transpose(1, 2)).transpose(0, 1)
        joint.finish_backward()
        cls_grad = to_query.backward(query_grad.reshape(batch, width), cls, grad)
        if not ctx.needs_input_grad[0]:
            return None, weight_grad, bias_grad, None, None
        both = torch.cat([weights, scores_grad], 1).transpose(1, 2)
        x_grad = torch.bmm(both, torch.cat([mixed_grad, query_key], 1))
        x_grad[:, 0] += cls_grad
        return x_grad, weight_grad, bias_grad, None, None
