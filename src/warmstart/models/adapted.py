"""The linear layers of a block that stands still, as the halves of a layer want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from warmstart.models.block import Block
from warmstart.models.dropout import DropoutPool
from warmstart.models.lowrank import Frozen, add_gradient, changeable
from warmstart.models.shadow import Home


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
