"""The layers of an encoder without gradients on a CPU: products of few shapes.

For 16 bits oneDNN prepares a kernel for every shape of a product and keeps it: for the widths of
the batches of an ordinary file these are more than 100 MB. Here the tokens of a batch stand in one
table that is filled up to a multiple of 64 rows, so that almost all batches are alike; memory that
a batch has left fits the next, in 32 bits too. The slow twin is `FastEncoder`'s own layer
(tests/models/test_fast_inference.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import pad

from warmstart.models.fast.block import Block, attend

ROWS = 64


class Layers(Protocol):
    """What is used of a `FastEncoder`."""

    blocks: list[Block]
    heads: int
    cls_only: bool
    activation: Callable[[Tensor], Tensor]

    def dense(self, module: nn.Module, x: Tensor) -> Tensor: ...
    def joint(self, parts: list[nn.Module], x: Tensor) -> tuple[Tensor, ...]: ...
    def norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor: ...


def run_layers(encoder: Layers, hidden: Tensor, bias: Tensor | None) -> Tensor:
    """All layers over the embedded tokens [B, L, H]; [B, 1, H], the first token's, where the
    encoder gives no more.

    Args:
        bias: what is added to attention's scores, [B, 1, 1, L], or None.
    """
    batch, length, width = hidden.shape
    rows, queries = _pad_rows(hidden.reshape(-1, width)), length
    last = len(encoder.blocks) - 1
    for index, block in enumerate(encoder.blocks):
        queries = 1 if encoder.cls_only and index == last else length
        rows = _layer(encoder, block, rows, (batch, queries, length), bias)
    return rows[: batch * queries].view(batch, queries, width)


def _layer(
    encoder: Layers,
    block: Block,
    rows: Tensor,
    shape: tuple[int, int, int],
    bias: Tensor | None,
) -> Tensor:
    """From the rows of all tokens to those of the query tokens.

    Args:
        shape: texts, query tokens of each, tokens of each.
    """
    batch, queries, length = shape

    def by_text(part: Tensor, columns: int) -> Tensor:
        return part[: batch * columns].view(batch, columns, -1)

    if queries == length:
        query, key, value = encoder.joint([block.query, block.key, block.value], rows)
    else:
        key, value = encoder.joint([block.key, block.value], rows)
        rows = _pad_rows(by_text(rows, length)[:, :queries].flatten(0, 1))
        query = encoder.dense(block.query, rows)
    query, key, value = by_text(query, queries), by_text(key, length), by_text(value, length)
    context = _pad_rows(attend(query, key, value, encoder.heads, bias).flatten(0, 1))
    rows = encoder.norm(rows + encoder.dense(block.attention_output, context), block.attention_norm)
    inner = encoder.activation(encoder.dense(block.up, rows))
    return encoder.norm(rows + encoder.dense(block.down, inner), block.norm)


def _pad_rows(rows: Tensor) -> Tensor:
    """The rows [n, H] and enough zeros below them for a multiple of `ROWS`."""
    missing = -len(rows) % ROWS
    return pad(rows, (0, 0, 0, missing)) if missing else rows
