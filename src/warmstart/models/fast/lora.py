"""Frozen matrices with low-rank changes beside them, and gradients for the changes alone.

A linear layer W x + b under LoRA (Hu et al. 2021) is W x + b + s B A x with W and b frozen. Nothing
asks for the gradient of W, which is a third of the work of training it; those of A and B are thin
products. The layers over one input (query, key, value) are computed as one: their A lie behind one
another, their B in the blocks of one matrix. The slow twin is `fast.FastEncoder.dense`, left to
autograd (tests/models/test_lowrank.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from warmstart.models.fast.block import Block
from warmstart.models.fast.dropout import DropoutPool
from warmstart.models.fast.mixed_precision import Home

PACKED_FOR = 512
"""Rows of the input that the order of a packed matrix is best for; right for any."""


class Change(NamedTuple):
    """One low-rank change, and its place in the joint matrices.

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


class Frozen:
    """Frozen layers over one input, with their changes, in the compute type.

    Args:
        modules: linear layers with a bias, plain or wrapped by PEFT; `changeable` holds for each.
        cast: (parameter) -> its values in the compute type.
        whole: keep the joint matrix as `weight`, rather than in the order of oneDNN alone.
    """

    def __init__(
        self, modules: Sequence[nn.Module], cast: Callable[[Tensor], Tensor], *, whole: bool = False
    ) -> None:
        bases: list[Any] = [getattr(module, "base_layer", module) for module in modules]
        weights, biases = [cast(b.weight) for b in bases], [cast(b.bias) for b in bases]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        self.bias = torch.cat(biases) if len(biases) > 1 else biases[0]
        packs = not whole and _can_pack(weight)
        self.weight = None if packs else weight
        self._forth, self._back = (_packed(weight), _packed(weight.t())) if packs else (None, None)
        self.changes = _changes(modules)
        width = sum(change.down.shape[0] for change in self.changes)
        self.down = weight.new_zeros(width, weight.shape[1])
        self.up = weight.new_zeros(weight.shape[0], width)
        self._sources: list[Tensor] = []
        self._copies: list[Tensor] = []
        for change in self.changes:
            self._sources += [change.down, change.up]
            self._copies += [self.down[change.ranks], self.up[change.rows, change.ranks]]

    def forth(self, x: Tensor) -> Tensor:
        """x W^T + b, without the changes."""
        if self.weight is not None:
            return torch.addmm(self.bias, x, self.weight.t())
        return torch.ops.mkldnn._linear_pointwise(x, self._forth, self.bias, "none", [], "")

    def under(self, grad: Tensor, below: Tensor | None) -> Tensor:
        """The gradient of x from that of `forth`, added to `below`."""
        weight = self.weight
        if weight is not None:
            return torch.mm(grad, weight) if below is None else torch.addmm(below, grad, weight)
        under = torch.ops.mkldnn._linear_pointwise(grad, self._back, None, "none", [], "")
        return under if below is None else under.add_(below)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the changes as they are now."""
        if self._copies:
            torch._foreach_copy_(self._copies, self._sources)
        for change, copy in zip(self.changes, self._copies[1::2], strict=True):
            copy.mul_(change.scale)

    def drawn(self, pools: dict[float, DropoutPool], rows: int) -> Adapted:
        """The layers as they are now, with fresh dropout masks for an input of so many rows."""
        self.refresh()
        masks: list[tuple[Tensor, float] | None] = []
        for change in self.changes:
            pool = pools[change.p] if change.p else None
            masks.append((pool.mask(rows, self.down.shape[1]), pool.scale) if pool else None)
        return Adapted(self, masks if any(masks) else None)


class Adapted:
    """`Frozen` in one step, with the same methods as `halves.Dense`."""

    def __init__(self, layer: Frozen, masks: list[tuple[Tensor, float] | None] | None) -> None:
        self.layer, self.masks = layer, masks
        self._low: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        y = layer.forth(x)
        if not layer.changes:
            return y
        if self.masks is None:
            self._low = torch.mm(x, layer.down.t())
        else:
            parts = zip(layer.changes, self.masks, strict=True)
            lows = [torch.mm(_dropped(x, mask), layer.down[c.ranks].t()) for c, mask in parts]
            self._low = torch.cat(lows, 1)
        return y.addmm_(self._low, layer.up.t())

    def back(
        self, grad: Tensor, x: Tensor, below: Tensor | None = None, *, needed: bool = True
    ) -> Tensor | None:
        """As `halves.Dense.back`; the gradients are added to those of the parameters."""
        layer = self.layer
        under = layer.under(grad, below) if needed else None
        if self._low is None:
            return under
        rising = torch.mm(grad, layer.up)
        ups = torch.mm(grad.t(), self._low)
        if self.masks is None:
            downs = torch.mm(rising.t(), x)
            if under is not None:
                under.addmm_(rising, layer.down)
        else:
            downs = self._dropped_back(rising, x, under)
        for change in layer.changes:
            add_gradient(change.down, downs[change.ranks])
            add_gradient(change.up, ups[change.rows, change.ranks], change.scale)
        return under

    def _dropped_back(self, rising: Tensor, x: Tensor, under: Tensor | None) -> Tensor:
        assert self.masks is not None
        downs = torch.empty_like(self.layer.down)
        for change, mask in zip(self.layer.changes, self.masks, strict=True):
            part = rising[:, change.ranks]
            torch.mm(part.t(), _dropped(x, mask), out=downs[change.ranks])
            if under is not None:
                under += _dropped(torch.mm(part, self.layer.down[change.ranks]), mask)
        return downs


def changeable(module: Any) -> bool:
    """Whether `Frozen` can hold this layer: frozen, with a bias, its changes of plain LoRA."""
    base = getattr(module, "base_layer", module)
    bias = base.bias
    return not (bias is None or base.weight.requires_grad or bias.requires_grad)


def drop_rates(modules: Sequence[nn.Module]) -> set[float]:
    """The dropout probabilities on the inputs of the changes, those of 0 left out."""
    return {change.p for change in _changes(modules)} - {0.0}


def _changes(modules: Sequence[Any]) -> list[Change]:
    found: list[Change] = []
    row = rank = 0
    for module in modules:
        base = getattr(module, "base_layer", module)
        rows = slice(row, row := row + base.weight.shape[0])
        for name in getattr(module, "active_adapters", ()):
            down, up = module.lora_A[name].weight, module.lora_B[name].weight
            ranks = slice(rank, rank := rank + down.shape[0])
            p = float(getattr(module.lora_dropout[name], "p", 0.0))
            found.append(Change(down, up, float(module.scaling[name]), p, rows, ranks))
    return found


def _can_pack(weight: Tensor) -> bool:
    """Whether products in this type read a matrix in an order of their own."""
    if weight.dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _packed(weight: Tensor) -> Tensor:
    """The matrix in that order, into which every product would else bring it again."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_FOR)


def _dropped(x: Tensor, mask: tuple[Tensor, float] | None) -> Tensor:
    """x with dropout, which is also its gradient."""
    if mask is None:
        return x
    bits, scale = mask
    return (x.view(bits.dtype) & bits).view(x.dtype).mul_(scale)


def add_gradient(parameter: nn.Parameter, grad: Tensor, scale: float = 1.0) -> None:
    """Add to the gradient of a parameter, if it is trained."""
    if not parameter.requires_grad:
        return
    if parameter.grad is None:
        parameter.grad = torch.mul(grad, scale, out=torch.empty_like(parameter))
    else:
        parameter.grad.add_(grad, alpha=scale)


# The linear layers of a block that stands still, as the halves of a layer want them.


class Merged(NamedTuple):
    """A frozen layer with its changes added into the matrix: for so few rows that the gradient of
    the whole matrix is cheap. The second of each home is that gradient's room."""

    weight: Home
    bias: Home
    layer: Frozen

    def settle(self) -> None:
        """The gradients of the changes from that of the matrix."""
        whole = self.weight[1]
        for change in self.layer.changes:
            rows = whole[change.rows]
            down, up = self.layer.down[change.ranks], self.layer.up[change.rows, change.ranks]
            add_gradient(change.down, torch.mm(up.t(), rows))
            add_gradient(change.up, torch.mm(rows, down.t()), change.scale)


class AdaptedBlock:
    """The layers of a block, frozen, with the low-rank changes beside them.

    Args:
        first: only the first token asks, and keys and values are merged with their changes.
        moved: a parameter that is trained outside of autograd, or None.
    """

    def __init__(self, block: Block, cast: Callable[[Tensor], Tensor], *, first: bool) -> None:
        matrices, self.first = block.matrices, first
        joint = [matrices[:1], matrices[1:3]] if first else [matrices[:3]]
        groups = [*joint, *([module] for module in matrices[3:])]
        self.layers = [
            Frozen(group, cast, whole=first and index == 1) for index, group in enumerate(groups)
        ]
        trained = (p for layer in self.layers for change in layer.changes for p in change[:2])
        self.moved = next((p for p in trained if p.requires_grad), None)

    @classmethod
    def of(
        cls, block: Block, cast: Callable[[Tensor], Tensor], *, first: bool
    ) -> AdaptedBlock | None:
        """None where a layer is not frozen, or the merged ones would drop their input."""
        if not all(changeable(module) for module in block.matrices):
            return None
        made = cls(block, cast, first=first)
        return None if first and any(change.p for change in made.layers[1].changes) else made

    def drawn(self, pools: dict[float, DropoutPool], batch: int, length: int) -> list[Any]:
        """The layers in one step, with dropout masks of their own."""
        if not self.first:
            return [layer.drawn(pools, batch * length) for layer in self.layers]
        query, joint, *rest = self.layers
        drawn = [layer.drawn(pools, batch) for layer in (query, *rest)]
        return [drawn[0], _merged(joint), *drawn[1:]]


@torch.no_grad()
def _merged(layer: Frozen) -> Merged:
    layer.refresh()
    assert layer.weight is not None
    weight = torch.addmm(layer.weight, layer.up, layer.down) if layer.changes else layer.weight
    rooms = torch.empty_like(weight), torch.empty_like(layer.bias)
    return Merged((weight, rooms[0]), (layer.bias, rooms[1]), layer)
