"""Frozen matrices with low-rank updates beside them, and gradients for the updates alone.

A linear layer W x + b under LoRA (Hu et al. 2021) is W x + b + s B A x with W and b frozen. Nothing
needs the gradient of W, which is a third of the work of training it; those of A and B are thin
products. The layers over one input (query, key, value) are computed as one: their A lie behind one
another, their B in the blocks of one matrix. The slow twin is `encoder.FastEncoder.dense`, left to
autograd (tests/models/test_fast_lora.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from warmstart.models.fast import ops
from warmstart.models.fast.block import Block
from warmstart.models.fast.dropout import DropoutMask, DropoutPool
from warmstart.models.fast.mixed_precision import Weight

NO_DROPOUT = DropoutMask(None, 1.0)


class LowRankUpdate(NamedTuple):
    """One low-rank update, and its place in the joint matrices.

    down, up: A [r, in] and B [out of this layer, r].
    rows, ranks: where its outputs lie among all of them, and its r among all.
    p: probability that an element of its input is dropped.
    """

    down: nn.Parameter
    up: nn.Parameter
    scale: float
    p: float
    rows: slice
    ranks: slice


class FrozenLinears:
    """Frozen layers over one input, with their updates, in the compute type.

    Args:
        modules: linear layers, plain or wrapped by PEFT, all with a bias or none; nothing of them
            is trained but their updates.
        cast: (parameter) -> its values in the compute type.
        whole: keep the joint matrix as `weight`, rather than in the order of oneDNN alone.
    """

    def __init__(
        self, modules: Sequence[nn.Module], cast: Callable[[Tensor], Tensor], *, whole: bool = False
    ) -> None:
        bases: list[Any] = [getattr(module, "base_layer", module) for module in modules]
        weights = [cast(b.weight) for b in bases]
        biases = [cast(b.bias) for b in bases if b.bias is not None]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.bias = torch.cat(biases) if len(biases) > 1 else biases[0] if biases else None
        packs = not whole and ops.can_pack(weight)
        self.weight = None if packs else weight
        self._packed = (ops.pack(weight), ops.pack(weight.t())) if packs else None
        self.updates = _updates(modules)
        width = sum(update.down.shape[0] for update in self.updates)
        self.down = weight.new_zeros(width, weight.shape[1])
        self.up = weight.new_zeros(weight.shape[0], width)
        self._sources: list[Tensor] = []
        self._copies: list[Tensor] = []
        for update in self.updates:
            self._sources += [update.down, update.up]
            self._copies += [self.down[update.ranks], self.up[update.rows, update.ranks]]

    def base_output(self, x: Tensor) -> Tensor:
        """x W^T + b, without the updates."""
        if self._packed is None:
            assert self.weight is not None
            return linear(x, self.weight, self.bias)
        return ops.packed_linear(x, self._packed[0], self.bias)

    def base_input_grad(self, grad: Tensor, residual: Tensor | None) -> Tensor:
        """The gradient of x from that of `base_output`, added to `residual`."""
        if self._packed is not None:
            x_grad = ops.packed_linear(grad, self._packed[1], None)
            return x_grad if residual is None else x_grad.add_(residual)
        assert self.weight is not None
        if residual is None:
            return torch.mm(grad, self.weight)
        return torch.addmm(residual, grad, self.weight)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the updates as they are now."""
        if self._copies:
            ops.copy_each(self._copies, self._sources)
        for update, copy in zip(self.updates, self._copies[1::2], strict=True):
            copy.mul_(update.scale)

    @torch.no_grad()
    def merged(self) -> MergedLinear:
        """The layers as they are now, with the updates in the matrix."""
        self.refresh()
        assert self.weight is not None
        weight = torch.addmm(self.weight, self.up, self.down) if self.updates else self.weight
        assert self.bias is not None
        places = [Weight(value, torch.empty_like(value)) for value in (weight, self.bias)]
        return MergedLinear(places[0], places[1], self)

    def for_step(self, pools: dict[float, DropoutPool], rows: int) -> AdaptedLinear:
        """The layers as they are now, with fresh dropout masks for an input of so many rows."""
        self.refresh()
        masks: list[DropoutMask] = []
        for update in self.updates:
            pool, width = pools[update.p] if update.p else None, self.down.shape[1]
            masks.append(DropoutMask(pool.mask(rows, width), pool.scale) if pool else NO_DROPOUT)
        dropped = any(mask.bits is not None for mask in masks)
        return AdaptedLinear(self, masks if dropped else None)


class AdaptedLinear:
    """`FrozenLinears` in one step, with the same methods as `mixed_precision.Dense`."""

    def __init__(self, layer: FrozenLinears, masks: list[DropoutMask] | None) -> None:
        self.layer, self.masks = layer, masks
        self._low: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        y = layer.base_output(x)
        if not layer.updates:
            return y
        if self.masks is None:
            self._low = torch.mm(x, layer.down.t())
        else:
            pairs = zip(layer.updates, self.masks, strict=True)
            lows = [torch.mm(mask(x), layer.down[u.ranks].t()) for u, mask in pairs]
            self._low = torch.cat(lows, 1)
        return y.addmm_(self._low, layer.up.t())

    def backward(
        self, grad: Tensor, x: Tensor, residual: Tensor | None = None, *, needed: bool = True
    ) -> Tensor | None:
        """As `Dense.backward`; the gradients are added to those of the parameters."""
        layer = self.layer
        x_grad = layer.base_input_grad(grad, residual) if needed else None
        if self._low is None:
            return x_grad
        low_grad = torch.mm(grad, layer.up)
        ups = torch.mm(grad.t(), self._low)
        if self.masks is None:
            downs = torch.mm(low_grad.t(), x)
            if x_grad is not None:
                x_grad.addmm_(low_grad, layer.down)
        else:
            downs = torch.empty_like(layer.down)
            for update, mask in zip(layer.updates, self.masks, strict=True):
                part = low_grad[:, update.ranks]
                torch.mm(part.t(), mask(x), out=downs[update.ranks])
                if x_grad is not None:
                    x_grad += mask(torch.mm(part, layer.down[update.ranks]))
        for update in layer.updates:
            _add_gradient(update.down, downs[update.ranks])
            _add_gradient(update.up, ups[update.rows, update.ranks], update.scale)
        return x_grad


def drop_rates(modules: Sequence[nn.Module]) -> set[float]:
    """The dropout probabilities on the inputs of the updates, those of 0 left out."""
    return {update.p for update in _updates(modules)} - {0.0}


def _updates(modules: Sequence[Any]) -> list[LowRankUpdate]:
    updates: list[LowRankUpdate] = []
    row = rank = 0
    for module in modules:
        base = getattr(module, "base_layer", module)
        rows = slice(row, row := row + base.weight.shape[0])
        for name in getattr(module, "active_adapters", ()):
            down, up = module.lora_A[name].weight, module.lora_B[name].weight
            ranks = slice(rank, rank := rank + down.shape[0])
            p = float(getattr(module.lora_dropout[name], "p", 0.0))
            updates.append(LowRankUpdate(down, up, float(module.scaling[name]), p, rows, ranks))
    return updates


def _add_gradient(parameter: nn.Parameter, grad: Tensor, scale: float = 1.0) -> None:
    """Add to the gradient of a parameter, if it is trained."""
    if not parameter.requires_grad:
        return
    if parameter.grad is None:
        parameter.grad = torch.mul(grad, scale, out=torch.empty_like(parameter))
    else:
        parameter.grad.add_(grad, alpha=scale)


class MergedLinear(NamedTuple):
    """A frozen layer with its updates added into the matrix: for so few rows that the gradient of
    the whole matrix is cheap, for which `weight` and `bias` have places."""

    weight: Weight
    bias: Weight
    layer: FrozenLinears

    def finish_backward(self) -> None:
        """The gradients of the updates from that of the matrix."""
        layer = self.layer
        for update in layer.updates:
            rows = self.weight.grad[update.rows]
            down, up = layer.down[update.ranks], layer.up[update.rows, update.ranks]
            _add_gradient(update.down, torch.mm(up.t(), rows))
            _add_gradient(update.up, torch.mm(rows, down.t()), update.scale)


class AdaptedBlock:
    """The layers of a block, frozen, with the low-rank updates beside them.

    Args:
        cls_only: the first token alone has a query; keys and values are merged with their updates.
        anchor: a parameter that is trained outside of autograd, or None.
    """

    def __init__(self, block: Block, cast: Callable[[Tensor], Tensor], *, cls_only: bool) -> None:
        self.cls_only = cls_only
        self.layers = [
            FrozenLinears(group, cast, whole=cls_only and index == 1)
            for index, group in enumerate(block.groups(cls_only=cls_only))
        ]
        trained = (p for layer in self.layers for update in layer.updates for p in update[:2])
        self.anchor = next((p for p in trained if p.requires_grad), None)

    @classmethod
    def of(
        cls, block: Block, cast: Callable[[Tensor], Tensor], *, cls_only: bool
    ) -> AdaptedBlock | None:
        """None where a layer has no bias or is not frozen, or the merged ones would drop their
        input."""
        bases = [getattr(module, "base_layer", module) for module in block.matrices]
        if any(b.bias is None or b.weight.requires_grad or b.bias.requires_grad for b in bases):
            return None
        adapted = cls(block, cast, cls_only=cls_only)
        drops = cls_only and any(update.p for update in adapted.layers[1].updates)
        return None if drops else adapted

    def for_step(self, pools: dict[float, DropoutPool], batch: int, length: int) -> list[Any]:
        """The layers in one step, with dropout masks of their own."""
        if not self.cls_only:
            return [layer.for_step(pools, batch * length) for layer in self.layers]
        query, joint, *rest = self.layers
        first, *others = [layer.for_step(pools, batch) for layer in (query, *rest)]
        return [first, joint.merged(), *others]
