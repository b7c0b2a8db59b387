"""Sixteen-bit twins of the trained matrices, with places for their gradients.

Mixed precision (Micikevicius et al. 2018) keeps 32-bit weights and computes with 16-bit copies.
Autocast makes those copies, and fresh gradients, anew in every step; here both have one home for
the whole run, so that a step allocates nothing: `refresh` copies the weights down, each product
writes its gradient where it belongs, `collect` copies the gradients up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Home = tuple[Tensor, Tensor]
"""A 16-bit matrix and where its gradient lives."""


class Shadow:
    """Copies of `groups` of parameters; the members of a group lie behind one another.

    A group (query, key, value) can so be used as one matrix. All members of a group have the same
    trailing shape. The parameters themselves, and their gradients, move into one block of memory
    in the same order, so that all of them are copied at once; `release` moves them out again.
    """

    def __init__(self, groups: Iterable[Sequence[nn.Parameter]], dtype: torch.dtype) -> None:
        groups = [list(group) for group in groups]
        self._members = [parameter for group in groups for parameter in group]
        device, total = self._members[0].device, sum(p.numel() for p in self._members)
        self._copy = torch.empty(total, dtype=dtype, device=device)
        self._copy_grad = torch.zeros_like(self._copy)
        self._master = torch.empty(total, dtype=torch.float32, device=device)
        self._master_grad = torch.zeros_like(self._master)
        self._homes: dict[tuple[int, ...], Home] = {}
        at = 0
        for group in groups:
            start = at
            for parameter in group:
                place = slice(at, at + parameter.numel())
                self._master[place].copy_(parameter.data.view(-1))
                parameter.data = self._master[place].view(parameter.shape)
                parameter.grad = self._master_grad[place].view(parameter.shape)
                at = place.stop
            shape = (-1, *group[0].shape[1:])
            home = self._copy[start:at].view(shape)
            home.requires_grad_()  # so that backward runs even where the input needs no gradient
            names = tuple(id(p) for p in group)
            self._homes[names] = (home, self._copy_grad[start:at].view(shape))
        self._ids = {id(p) for p in self._members}

    def get(self, *group: object) -> Home | None:
        """The 16-bit matrix of a group and the home of its gradient."""
        return self._homes.get(tuple(id(p) for p in group))

    def owns(self, parameter: Tensor) -> bool:
        """Whether the gradient of `parameter` is kept here."""
        return id(parameter) in self._ids

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the weights down; to be called when they have changed."""
        self._copy.copy_(self._master)

    @torch.no_grad()
    def collect(self, *, accumulate: bool) -> None:
        """Copy the gradients up, or add them when a step has several micro-batches."""
        if accumulate:
            self._master_grad.add_(self._copy_grad)
        else:
            self._master_grad.copy_(self._copy_grad)

    def release(self) -> None:
        """Give every parameter memory of its own, without a gradient; to be called at the end."""
        for parameter in self._members:
            parameter.grad = None
        del self._copy, self._copy_grad, self._master_grad, self._homes  # room for the clones
        for parameter in self._members:
            parameter.data = parameter.data.clone()


class _ShadowLinear(torch.autograd.Function):
    """x W^T + b whose weight gradient is written into its home instead of being returned."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_grad: Tensor,
        bias_grad: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.homes = (weight_grad, bias_grad)
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        x, weight = ctx.saved_tensors
        weight_grad, bias_grad = ctx.homes
        grad = grads[0].reshape(-1, weight.shape[0])
        torch.mm(grad.t(), x.reshape(-1, weight.shape[1]), out=weight_grad)
        torch.sum(grad, 0, out=bias_grad)
        below = torch.mm(grad, weight).view(x.shape) if ctx.needs_input_grad[0] else None
        return below, None, None, None, None


def shadow_linear(x: Tensor, weight: Home, bias: Home) -> Tensor:
    """x W^T + b in 16 bits; the gradients go to the homes of weight and bias."""
    applied: Any = _ShadowLinear.apply(x, weight[0], bias[0], weight[1], bias[1])
    return applied


class RowGradient:
    """The gradient of an embedding, of which a step touches few rows.

    Zeroing and filling cost what the batch holds, not what the vocabulary holds.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight
        weight.grad = torch.zeros_like(weight)
        self._touched: list[Tensor] = []
        self._filled = False

    def fill(self) -> None:
        """Say that the gradient was written to as a whole in this step."""
        self._filled = True

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of the embedding, [*ids.shape, H]."""
        rows: Any = _Lookup.apply(self.weight, ids, self)
        return rows

    def add(self, ids: Tensor, grad: Tensor) -> None:
        """Add the gradients of looked-up rows."""
        assert self.weight.grad is not None
        flat = ids.reshape(-1)
        self.weight.grad.index_add_(0, flat, grad.reshape(flat.numel(), -1).float())
        self._touched.append(flat)

    @torch.no_grad()
    def zero(self) -> None:
        """Forget the last step."""
        assert self.weight.grad is not None
        if self._filled:
            self.weight.grad.zero_()
        else:
            for rows in self._touched:
                self.weight.grad.index_fill_(0, rows, 0.0)
        self._touched.clear()
        self._filled = False


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, ids: Tensor, home: RowGradient) -> Tensor:
        ctx.home, ctx.ids = home, ids
        return weight.index_select(0, ids.reshape(-1)).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        ctx.home.add(ctx.ids, grads[0])
        return None, None, None
