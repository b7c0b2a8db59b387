"""How fast, and from when on, some of the weights move."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class Pace(NamedTuple):
    """A share of the learning rate for some parameters, after so many epochs of standing still."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    wait: int = 0
