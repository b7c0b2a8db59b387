"""A model in two parts: the blocks that stand still, and the rest on what those give.

Both ways to compute can be split. Of the fast encoder there are two over the same modules; a
model of transformers keeps its own forward, in which the blocks below the split pass on their
input and the first block above it is handed the stored states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from warmstart.models.architectures import layers_of
from warmstart.models.head_layers import unwrap


class Computes(Protocol):
    """What is split, and what a language model computes by: a `Forward`."""

    model: Any
    device: torch.device
    dtype: torch.dtype

    def logits(
        self, ids: Tensor, lengths: Tensor, *, training: bool, types: Tensor | None = None
    ) -> Tensor: ...
    def set_mode(self, training: bool) -> None: ...
    def autocast(self) -> torch.autocast: ...


class Cut:
    """A compute, split below one of its blocks."""

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        """What the blocks below the split give, [B, L, H], without dropout or gradient."""
        raise NotImplementedError

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        """Logits [B, K] from there."""
        raise NotImplementedError

    def close(self) -> None:
        """Make the compute whole again."""


class FastCut(Cut):
    """The fast encoder in two parts, over the same parameters."""

    def __init__(self, compute: Any, blocks: int) -> None:
        self.compute, self._whole = compute, compute.encoder
        whole = compute.encoder
        self._states: Tensor | None = None
        self._below = whole.with_blocks(whole.blocks[:blocks], cls_only=False)
        compute.encoder = whole.with_blocks(
            whole.blocks[blocks:],
            embed=lambda ids, types: self._states,
            embedding_norm=None,
            project=None,
        )
        for part in (self._below, compute.encoder):
            part.prepare(compute.dtype, compute.device, checkpointing=whole.gradient_checkpointing)

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        self.compute.model.train(False)
        return self._below.forward(ids, lengths, training=False, types=types)

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        self._states = states
        return self.compute.logits(ids, lengths, training=training)

    def close(self) -> None:
        self.compute.encoder = self._whole


class _Reached(Exception):
    """The states at the split are known; the rest of the forward pass is not needed."""


class SlowCut(Cut):
    """The forward pass of transformers in two parts."""

    def __init__(self, compute: Computes, blocks: int) -> None:
        self.compute, self.blocks = compute, layers_of(unwrap(compute.model))
        self.start = blocks
        self._gives_tuples = False

    @torch.no_grad()
    def is_exact(self) -> bool:
        """Whether both parts together answer as the whole does, tried on a few made-up rows."""
        device = self.compute.device
        ids = torch.arange(5, 17, device=device).view(2, 6)
        lengths = torch.tensor([6, 4], device=device)
        try:
            # a model that pads by itself (Longformer) is given as many as there are ids
            states = self.states(ids, lengths)[:, : ids.shape[1]]
            parts = self.logits(states, ids, lengths, training=False)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
            return False
        whole = self.compute.logits(ids, lengths, training=False)
        return torch.allclose(parts, whole, atol=1e-5)

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        reached: list[Tensor] = []

        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            self._gives_tuples = isinstance(output, tuple)

        def stop(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            reached.append(inputs[0] if inputs else named["hidden_states"])
            raise _Reached

        hooks = [
            self.blocks[0].register_forward_hook(see),
            self.blocks[self.start].register_forward_pre_hook(stop, with_kwargs=True),
        ]
        try:
            self.compute.logits(ids, lengths, training=False, types=types)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return reached[0]

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        def replace(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if inputs:
                return (states.to(inputs[0].dtype), *inputs[1:]), named
            return inputs, named | {"hidden_states": states.to(named["hidden_states"].dtype)}

        hook = self.blocks[self.start].register_forward_pre_hook(replace, with_kwargs=True)
        try:
            with _identity(self.blocks[: self.start], self._gives_tuples):
                return self.compute.logits(ids, lengths, training=training)
        finally:
            hook.remove()


@contextmanager
def _identity(blocks: list[nn.Module], tuples: bool) -> Iterator[None]:
    """Inside, these blocks do nothing but pass on their input."""

    def forward(hidden_states: Tensor, *rest: Any, **named: Any) -> Any:
        return (hidden_states,) if tuples else hidden_states

    before: list[Callable[..., Any] | None] = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = forward
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            del block.forward
            if own is not None:
                block.forward = own
