"""Adapted models of one base: their frozen weights in memory once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from warmstart.models.adapter_files import PARTS
from warmstart.models.families import body_of
from warmstart.models.heads import unwrap

if TYPE_CHECKING:
    from torch import Tensor, nn


def share(model: Any, weights: dict[str, Tensor]) -> None:
    """Let the body of an adapted model use the tensors in `weights` that are equal to its own.

    What is not in there yet is put there, so that the next model of the same base finds it.
    """
    for name, parameter in _of_the_base(model):
        known = weights.setdefault(name, parameter.data)
        if known.shape == parameter.shape and torch.equal(known, parameter.data):
            parameter.data = known


def _of_the_base(model: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """The frozen weights of the body, by the names that they have without an adapter."""
    own = (*PARTS, "modules_to_save", "original_module")
    for name, parameter in body_of(unwrap(model)).named_parameters():
        if not any(part in name for part in own):
            yield name.replace(".base_layer.", "."), parameter
