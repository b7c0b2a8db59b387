"""One layer of a post-norm encoder, under the same names for every family."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Block:
    """The modules of one layer, whatever the family calls them."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_output: nn.Module
    attention_norm: nn.LayerNorm
    up: nn.Module
    down: nn.Module
    norm: nn.LayerNorm

    @property
    def matrices(self) -> list[nn.Module]:
        """The linear layers, query, key and value first."""
        joint = [self.query, self.key, self.value]
        return [*joint, self.attention_output, self.up, self.down]
