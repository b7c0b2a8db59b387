"""Neighbours in memory as one tensor, for what moves element by element."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def joined(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Parameters that lie behind one another in memory, as their gradients do, as one tensor each.

    What moves element by element moves faster so. The others stay as they are.
    """
    blocks: dict[int, list[nn.Parameter]] = {}
    for parameter in parameters:
        blocks.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)
    found: list[list[nn.Parameter]] = []
    for block in blocks.values():
        for parameter in sorted(block, key=lambda p: p.storage_offset()):
            if found and _follows(found[-1][-1], parameter):
                found[-1].append(parameter)
            else:
                found.append([parameter])
    return [_flat(run) if len(run) > 1 else run[0] for run in found]


def _follows(one: nn.Parameter, other: nn.Parameter) -> bool:
    """Whether `other` begins where `one` ends, in the same block; and their gradients too."""
    if one.grad is None or other.grad is None:
        return False
    return all(
        a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
        and a.data_ptr() + a.nbytes == b.data_ptr()
        for a, b in ((one, other), (one.grad, other.grad))
    )


def _flat(run: list[nn.Parameter]) -> Tensor:
    """A view of neighbours, and of their gradients, as vectors."""
    size, first = sum(p.numel() for p in run), run[0]
    assert first.grad is not None
    flat = torch.as_strided(first.detach(), (size,), (1,))
    flat.grad = torch.as_strided(first.grad, (size,), (1,))
    return flat
