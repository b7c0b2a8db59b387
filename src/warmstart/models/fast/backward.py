"""The two halves of an encoder layer, each one autograd function with its own backward pass.

Left to autograd, a layer is some forty small nodes, and their dispatch costs as much as a tenth of
the products. Here every half computes its gradients by hand: those of matrices go to their homes
(see `shadow`), the residual's is added by the product that follows it. The slow twin is the same
layer in `fast.FastEncoder`, left to autograd (tests/models/test_halves.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import gelu

from warmstart.models.fast.block import Block
from warmstart.models.fast.lora import Adapted, Merged
from warmstart.models.fast.mixed_precision import Home, Shadow

aten = torch.ops.aten


class Dense(NamedTuple):
    """A linear layer in 16 bits: weight [out, in] and bias [out], each with its gradient's home."""

    weight: Home
    bias: Home

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[0], x, self.weight[0].t())

    def keep(self, grad: Tensor, x: Tensor) -> None:
        """Write the gradients of weight and bias, from that of the output [n, out]."""
        torch.mm(grad.t(), x, out=self.weight[1])
        torch.sum(grad, 0, out=self.bias[1])

    def back(
        self, grad: Tensor, x: Tensor, below: Tensor | None = None, *, needed: bool = True
    ) -> Tensor | None:
        """Keep the gradients of the layer; that of its input x, added to `below`, where needed."""
        self.keep(grad, x)
        if not needed:
            return None
        weight = self.weight[0]
        return torch.mm(grad, weight) if below is None else torch.addmm(below, grad, weight)

    def settle(self) -> None:
        """Nothing: the gradients have come home."""


def dense_of(block: Block, shadow: Shadow, *, first: bool) -> list[Dense] | None:
    """The 16-bit layers of a block, if every one of them is trained and has its home.

    Args:
        first: only the first token asks: the query stands apart from key and value.
    """
    if not block.norm.weight.requires_grad:
        return None
    matrices: list[Any] = block.matrices
    joint = [matrices[:1], matrices[1:3]] if first else [matrices[:3]]
    found: list[Dense] = []
    for group in [*joint, *([module] for module in matrices[3:])]:
        weight = shadow.get(*(getattr(m, "weight", m) for m in group))
        bias = shadow.get(*(getattr(m, "bias", m) for m in group))
        if weight is None or bias is None:
            return None
        found.append(Dense(weight, bias))
    return found


Linear = Dense | Adapted
"""A linear layer that is trained itself, or frozen with changes beside it."""


class Dropped(NamedTuple):
    """A dropout mask as bits (see `dropout`), and 1 / (1 - p); no mask, no dropout."""

    mask: Tensor | None
    scale: float

    def keep_(self, x: Tensor) -> Tensor:
        """Zero the dropped elements in place, unscaled."""
        if self.mask is not None:
            x.view(self.mask.dtype).bitwise_and_(self.mask.view(x.shape))
        return x

    def kept(self, grad: Tensor) -> Tensor:
        """The gradient of scaled dropout."""
        if self.mask is None:
            return grad
        bits = grad.view(self.mask.dtype) & self.mask.view(grad.shape)
        return bits.view(grad.dtype).mul_(self.scale)

    @property
    def factor(self) -> float:
        """What the kept elements are multiplied with."""
        return 1.0 if self.mask is None else self.scale


def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.native_layer_norm(x, weight.shape, weight, bias, eps)


def norm_back(
    grad: Tensor, x: Tensor, moments: Sequence[Tensor], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias of a norm."""
    mean, rstd = moments
    asked = [True, weight.requires_grad, bias.requires_grad]
    return aten.native_layer_norm_backward(grad, x, weight.shape, mean, rstd, weight, bias, asked)


class _FeedForward(Function):
    """norm(x + dropout(down(gelu(up(x)))))."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, half: Any, moved: Tensor | None
    ) -> Tensor:
        eps, up, down, dropped = half
        risen = up(x)
        active = gelu(risen)
        fallen = dropped.keep_(down(active))
        added = torch.add(x, fallen, alpha=dropped.factor)
        y, *moments = norm(added, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, risen, active, added, *moments)
        ctx.half = half
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, risen, active, added, *moments = ctx.saved_tensors
        _, up, down, dropped = ctx.half
        below, of_weight, of_bias = norm_back(grads[0], added, moments, weight, bias)
        fallen = dropped.kept(below)
        rising = aten.gelu_backward(down.back(fallen, active), risen)
        below = up.back(rising, x, below, needed=ctx.needs_input_grad[0])
        return below, of_weight, of_bias, None, None


def feed_forward(
    x: Tensor,
    layer_norm: nn.LayerNorm,
    up: Linear,
    down: Linear,
    dropped: Dropped,
    moved: Tensor | None = None,
) -> Tensor:
    """The second half of a layer, from x [n, H] to [n, H].

    Args:
        moved: anything that requires a gradient, where neither x nor the norm does.
    """
    half = (layer_norm.eps, up, down, dropped)
    applied: Any = _FeedForward.apply(x, layer_norm.weight, layer_norm.bias, half, moved)
    return applied


class Weighed(NamedTuple):
    """How attention weighs: scores * scale + bias, softmax, dropout."""

    heads: int
    scale: float
    bias: Tensor | None
    dropped: Dropped

    def weights(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Attention weights of scores [B, heads, queries, L]: float32, and dropped in 16 bits.

        In float32, because torch's 16-bit softmax takes four times as long for rows this short.
        """
        if self.bias is None:
            scaled = scores.float().mul_(self.scale)
        else:
            scaled = torch.add(self.bias, scores, alpha=self.scale).float()
        soft = torch.softmax(scaled, -1)
        return soft, self.dropped.keep_(soft.to(scores.dtype, copy=True))

    def scores_back(self, grad: Tensor, soft: Tensor) -> Tensor:
        """The gradient of the scores from that of the dropped weights, whose memory it takes."""
        below = aten._softmax_backward_data(
            self.dropped.keep_(grad).float(), soft, -1, torch.float32
        )
        return torch.mul(below, self.scale, out=grad)


class _Attention(Function):
    """norm(x + dropout(out(attention(x)))) with all positions as queries."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, half: Any, moved: Tensor | None
    ) -> Tensor:
        eps, joint, out, weighed, dropped = half
        batch, length, width = x.shape
        flat, heads = x.view(-1, width), weighed.heads
        size = width // heads
        parts = joint(flat).view(batch, length, 3, heads, size).permute(2, 0, 3, 1, 4).contiguous()
        query, key, value = parts.view(3, batch * heads, length, size)
        scores = torch.bmm(query, key.transpose(1, 2)).view(batch, heads, length, length)
        soft, kept = weighed.weights(scores)
        seen = torch.bmm(kept.view(-1, length, length), value).view(batch, heads, length, size)
        context = torch.empty_like(x).view(batch, length, heads, size)
        torch.mul(seen.transpose(1, 2), weighed.dropped.factor, out=context)
        context = context.view(-1, width)
        added = torch.add(flat, dropped.keep_(out(context)), alpha=dropped.factor)
        y, *moments = norm(added, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, parts, soft, kept, context, added, *moments)
        ctx.half = half
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight, bias, parts, soft, kept, context, added, *moments = ctx.saved_tensors
        _, joint, out, weighed, dropped = ctx.half
        (batch, length, width), heads = x.shape, weighed.heads
        size = width // heads
        query, key, value = parts.view(3, batch * heads, length, size)
        kept = kept.view(-1, length, length)
        below, of_weight, of_bias = norm_back(grads[0], added, moments, weight, bias)
        attended = dropped.kept(below)
        over = out.back(attended, context).view(batch, length, heads, size)
        seen = torch.empty_like(query).view(batch, heads, length, size)
        torch.mul(over.transpose(1, 2), weighed.dropped.factor, out=seen)
        seen = seen.view(-1, length, size)
        back = torch.empty_like(parts).view(3, -1, length, size)
        torch.bmm(kept.transpose(1, 2), seen, out=back[2])
        scores = torch.bmm(seen, value.transpose(1, 2)).view(soft.shape)
        scores = weighed.scores_back(scores, soft).view(-1, length, length)
        torch.bmm(scores, key, out=back[0])
        torch.bmm(scores.transpose(1, 2), query, out=back[1])
        back = back.view(3, batch, heads, length, size).permute(1, 3, 0, 2, 4)
        back = back.reshape(batch * length, 3 * width)
        flat = x.view(-1, width)
        below = joint.back(back, flat, below, needed=ctx.needs_input_grad[0])
        return None if below is None else below.view(x.shape), of_weight, of_bias, None, None


def attention(
    x: Tensor,
    layer_norm: nn.LayerNorm,
    joint: Linear,
    out: Linear,
    weighed: Weighed,
    dropped: Dropped,
    moved: Tensor | None = None,
) -> Tensor:
    """The first half of a layer, from x [B, L, H] to [B * L, H].

    Args:
        joint: query, key and value behind one another.
        weighed: its mask, where there is one, of [B, heads, L, L].
        moved: anything that requires a gradient, where neither x nor the norm does.
    """
    half = (layer_norm.eps, joint, out, weighed, dropped)
    applied: Any = _Attention.apply(x, layer_norm.weight, layer_norm.bias, half, moved)
    return applied


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
