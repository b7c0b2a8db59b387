"""Dropout whose random numbers cost nothing in the step.

`torch.dropout` on a CPU draws one Mersenne-Twister number per element, which takes longer than the
matrix product beside it. Here a pool of independent keep-or-drop decisions is drawn ahead (once an
epoch), and each use reads a window of it at a random offset: every element is still dropped with
probability p, independently of its neighbours. A decision is stored as all-ones or all-zeros bits
of the width of the activations, so that dropping is one integer AND. The factor 1 / (1 - p) of
Srivastava et al. (2014) is applied by the caller where a multiplication happens anyway.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
ALIGN = 64


class DropoutPool:
    """Masks for one probability and one floating-point width.

    Args:
        p: probability that an element becomes zero, 0 ≤ p < 1.
        dtype: type of the activations.
        size: decisions in the pool; a mask of more than half of them is put together from windows.
    """

    def __init__(self, p: float, dtype: torch.dtype, device: torch.device, size: int = 1 << 23):
        self.p, self.dtype, self.device, self.size = p, dtype, device, size
        self.scale = 1.0 / (1.0 - p)
        self._masks: Tensor | None = None
        self._offsets = random.Random(0)

    def refill(self, seed: int) -> None:
        """Draw a new pool. The same seed gives the same masks on every machine."""
        draws = np.random.Generator(np.random.SFC64(seed)).integers(
            0, 1 << 16, size=self.size, dtype=np.uint16
        )
        kept = torch.from_numpy(draws >= np.uint16(round(self.p * (1 << 16))))
        self._masks = kept.to(BITS[self.dtype]).neg_().to(self.device)

    def begin_step(self, seed: int) -> None:
        """Choose where this step's windows start; makes a step repeatable on its own."""
        self._offsets = random.Random(seed)
        if self._masks is None:
            self.refill(0)

    def mask(self, *shape: int) -> Tensor:
        """Bits to AND with activations of `shape`, which the caller then scales by `scale`."""
        if self._masks is None:
            self.refill(0)
        count, largest = int(np.prod(shape)), self.size // 2
        if count <= largest:
            return self._window(count).view(shape)
        parts = [self._window(min(largest, count - at)) for at in range(0, count, largest)]
        return torch.cat(parts).view(shape)

    def _window(self, count: int) -> Tensor:
        assert self._masks is not None
        start = self._offsets.randrange((self.size - count) // ALIGN + 1) * ALIGN
        return self._masks[start : start + count]


class DropoutMask(NamedTuple):
    """The bits of a mask and 1 / (1 - p); no bits, no dropout."""

    bits: Tensor | None
    scale: float

    def drop_(self, x: Tensor) -> Tensor:
        """Zero the dropped elements in place; the caller multiplies with `factor`."""
        if self.bits is not None:
            x.view(self.bits.dtype).bitwise_and_(self.bits.view(x.shape))
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """Scaled dropout of x, and likewise of a gradient."""
        if self.bits is None:
            return x
        kept = x.view(self.bits.dtype) & self.bits.view(x.shape)
        return kept.view(x.dtype).mul_(self.scale)

    @property
    def factor(self) -> float:
        """What the elements that are not dropped are multiplied with."""
        return 1.0 if self.bits is None else self.scale


class _Drop(torch.autograd.Function):
    """x AND mask, unscaled."""

    @staticmethod
    def forward(ctx, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return (x.view(mask.dtype) & mask).view(x.dtype)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (mask,) = ctx.saved_tensors
        grad = grads[0].contiguous()
        return (grad.view(mask.dtype) & mask).view(grad.dtype), None


class _DropAdd(torch.autograd.Function):
    """residual + scale * (x AND mask), the residual connection of a transformer in two passes."""

    @staticmethod
    def forward(ctx, residual: Tensor, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.add(residual, (x.view(mask.dtype) & mask).view(x.dtype), alpha=scale)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        (mask,) = ctx.saved_tensors
        grad = grads[0].contiguous()
        dropped = (grad.view(mask.dtype) & mask).view(grad.dtype)
        return grad, dropped.mul_(ctx.scale), None, None


def drop(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zero the masked elements of x; the caller scales."""
    if mask is None:
        return x
    dropped: Any = _Drop.apply(x, mask)
    return dropped


def drop_add(residual: Tensor, x: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """residual + dropout(x)."""
    if mask is None:
        return residual + x
    added: Any = _DropAdd.apply(residual, x, mask, scale)
    return added
