"""Sixteen-bit copies of the trained matrices, with places for their gradients.

Mixed precision (Micikevicius et al. 2018) keeps 32-bit master weights and computes with 16-bit
copies. Autocast makes those copies, and fresh gradients, anew in every step; here both have one
place for the whole run, so that a step allocates nothing: `refresh` copies the weights down, each
product writes its gradient where it belongs, `collect` copies the gradients up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Weight(NamedTuple):
    """A 16-bit matrix (or bias) and the place of its gradient."""

    value: Tensor
    grad: Tensor


class Dense(NamedTuple):
    """A linear layer in 16 bits: weight [out, in] and bias [out]."""

    weight: Weight
    bias: Weight

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias.value, x, self.weight.value.t())

    def backward(
        self, grad: Tensor, x: Tensor, residual: Tensor | None = None, *, needed: bool = True
    ) -> Tensor | None:
        """Write the gradients of weight and bias, from that of the output [n, out].

        Returns the gradient of the input x [n, in], added to `residual`, where it is needed.
        """
        torch.mm(grad.t(), x, out=self.weight.grad)
        torch.sum(grad, 0, out=self.bias.grad)
        if not needed:
            return None
        weight = self.weight.value
        return torch.mm(grad, weight) if residual is None else torch.addmm(residual, grad, weight)

    def finish_backward(self) -> None:
        """Nothing: the gradients are where they belong."""


class MixedPrecision:
    """16-bit copies of `groups` of parameters; the members of a group lie behind one another.

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
        self._weights: dict[tuple[int, ...], Weight] = {}
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
            value = self._copy[start:at].view(shape)
            value.requires_grad_()  # so that backward runs even where the input needs no gradient
            key = tuple(id(p) for p in group)
            self._weights[key] = Weight(value, self._copy_grad[start:at].view(shape))
        self._ids = {id(p) for p in self._members}

    def get(self, *group: object) -> Weight | None:
        """The 16-bit matrix of a group and the place of its gradient."""
        return self._weights.get(tuple(id(p) for p in group))

    def dense(self, modules: Sequence[Any]) -> Dense | None:
        """Linear layers over one input as one, where weights and biases are groups here."""
        weight = self.get(*(getattr(module, "weight", module) for module in modules))
        bias = self.get(*(getattr(module, "bias", module) for module in modules))
        return Dense(weight, bias) if weight and bias else None

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

    @torch.no_grad()
    def forget(self, *, whole: bool = True) -> None:
        """Set the gradients of the copies to zero, and (`whole`) those of the weights: for steps
        whose gradients are added up rather than written."""
        self._copy_grad.zero_()
        if whole:
            self._master_grad.zero_()

    def release(self) -> None:
        """Give every parameter memory of its own, without a gradient; to be called at the end."""
        for parameter in self._members:
            parameter.grad = None
        del self._copy, self._copy_grad, self._master_grad, self._weights  # room for the clones
        for parameter in self._members:
            parameter.data = parameter.data.clone()


class _Linear(torch.autograd.Function):
    """x W^T + b whose weight gradient is written into its place instead of being returned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dense: Dense) -> Tensor:
        ctx.save_for_backward(x)
        ctx.dense = dense
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        inputs = x.reshape(-1, x.shape[-1])
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        below = ctx.dense.backward(grad, inputs, needed=ctx.needs_input_grad[0])
        return None if below is None else below.view(x.shape), None, None, None


def mixed_linear(x: Tensor, dense: Dense) -> Tensor:
    """x W^T + b in 16 bits, for x [..., in]; the gradients of W and b go to their places."""
    applied: Any = _Linear.apply(x, dense.weight.value, dense.bias.value, dense)
    return applied


class RowGradient:
    """The gradient of an embedding, of which a step touches few rows.

    Zeroing and filling cost what the batch holds, not what the vocabulary holds.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        self.weight = weight
        weight.grad = torch.zeros_like(weight)
        self._touched: list[Tensor] = []
        self._is_dense = False

    def fill(self) -> None:
        """Say that the gradient was written to as a whole in this step."""
        self._is_dense = True

    def lookup(self, ids: Tensor) -> Tensor:
        """Rows of the embedding, [*ids.shape, H]."""
        rows: Any = _Lookup.apply(self.weight, ids, self)
        return rows

    def add(self, ids: Tensor, grad: Tensor) -> None:
        """Add the gradients of looked-up rows."""
        assert self.weight.grad is not None
        rows = ids.reshape(-1)
        self.weight.grad.index_add_(0, rows, grad.reshape(rows.numel(), -1).float())
        self._touched.append(rows)

    @torch.no_grad()
    def zero(self) -> None:
        """Forget the last step."""
        assert self.weight.grad is not None
        if self._is_dense:
            self.weight.grad.zero_()
        else:
            for rows in self._touched:
                self.weight.grad.index_fill_(0, rows, 0.0)
        self._touched.clear()
        self._is_dense = False


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, rows: RowGradient) -> Tensor:
        ctx.rows, ctx.ids = rows, ids
        return weight.index_select(0, ids.reshape(-1)).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ctx.rows.add(ctx.ids, grads[0])
        return None, None, None
