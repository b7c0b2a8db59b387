"""A model in two parts: the blocks that stand still, and the rest on what those gave.

Both ways to compute can be cut. The fast encoder is built a second time from the same modules; a
model of transformers keeps its own forward, in which the blocks below the cut pass on what they
are given and the first block above it is handed the kept states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from warmstart.models.architectures import family_of, layers_of
from warmstart.models.fast.encoder import FastEncoder
from warmstart.models.head_layers import unwrap

if TYPE_CHECKING:
    from warmstart.models.forward import Compute, FastCompute


class Cut(Protocol):
    """A compute, cut below one of its blocks."""

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        """What the blocks below the cut give, [B, L, H], without dropout or gradient."""
        ...

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        """Logits [B, K] from there."""
        ...

    def close(self) -> None:
        """Let the compute be whole again."""
        ...


def cut_of(compute: Compute, blocks: int) -> Cut | None:
    """The compute cut above its first `blocks` blocks; None where that cannot be done exactly.

    So it is with encoder-decoders, and where blocks pass on more than their hidden states.
    """
    inner = unwrap(compute.model)
    if blocks < 1 or family_of(inner.config).kind == "encoder-decoder":
        return None
    if compute.is_fast:
        return FastCut(compute, blocks)  # pyright: ignore[reportArgumentType]
    slow = SlowCut(compute, blocks)
    return slow if slow.fits() else None


class FastCut:
    """The fast encoder in two parts, over the same parameters."""

    def __init__(self, compute: FastCompute, blocks: int) -> None:
        self.compute, self._whole = compute, compute.encoder
        whole = compute.encoder
        settings: dict[str, Any] = {"drop_attended": whole.drop_attended}
        self._below = FastEncoder(
            whole.embed, whole.embedding_norm, whole.project, whole.blocks[:blocks], whole.heads,
            whole.activation, whole.dropout, first_only=False, **settings,
        )  # fmt: skip
        above = _Above(
            self._given, nn.LayerNorm(1), None, whole.blocks[blocks:], whole.heads,
            whole.activation, whole.dropout, first_only=whole.first_only, **settings,
        )  # fmt: skip
        self._states: Tensor | None = None
        for part in (self._below, above):
            part.prepare(compute.dtype, compute.device, checkpointing=whole.gradient_checkpointing)
        above.shadow = whole.shadow
        compute.encoder = above

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        self.compute.model.train(False)
        return self._below.forward(ids, lengths, training=False, types=types)

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        self._states = states
        return self.compute.logits(ids, lengths, training=training)

    def close(self) -> None:
        self.compute.encoder = self._whole

    def _given(self, ids: Tensor, types: Tensor | None) -> Tensor:
        assert self._states is not None
        return self._states


class _Above(FastEncoder):
    """Begins at hidden states: no norm and no dropout before the first block."""

    def norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return x if norm is self.embedding_norm else super().norm(x, norm)

    def _drop_hidden(self, hidden: Tensor, training: bool) -> Tensor:
        return hidden


class _Reached(Exception):
    """The states at the cut are known; the rest of the forward pass is not needed."""


class SlowCut:
    """The forward pass of transformers in two parts."""

    def __init__(self, compute: Compute, blocks: int) -> None:
        self.compute, self.blocks = compute, layers_of(unwrap(compute.model))
        self.cut = blocks
        self._tuples = False

    @torch.no_grad()
    def fits(self) -> bool:
        """Whether both parts together answer as the whole does, tried on a few made-up rows."""
        device = self.compute.device
        ids = torch.arange(5, 17, device=device).view(2, 6)
        lengths = torch.tensor([6, 4], device=device)
        try:
            states = self.states(ids, lengths)
            parts = self.logits(states, ids, lengths, training=False)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False
        whole = self.compute.logits(ids, lengths, training=False)
        return torch.allclose(parts, whole, atol=1e-5)

    def states(self, ids: Tensor, lengths: Tensor, *, types: Tensor | None = None) -> Tensor:
        kept: list[Tensor] = []

        def first(module: nn.Module, inputs: Any, output: Any) -> None:
            self._tuples = isinstance(output, tuple)

        def stop(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            kept.append(inputs[0] if inputs else named["hidden_states"])
            raise _Reached

        hooks = [
            self.blocks[0].register_forward_hook(first),
            self.blocks[self.cut].register_forward_pre_hook(stop, with_kwargs=True),
        ]
        try:
            self.compute.logits(ids, lengths, training=False, types=types)
        except _Reached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return kept[0]

    def logits(self, states: Tensor, ids: Tensor, lengths: Tensor, *, training: bool) -> Tensor:
        def give(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if inputs:
                return (states.to(inputs[0].dtype), *inputs[1:]), named
            return inputs, named | {"hidden_states": states.to(named["hidden_states"].dtype)}

        hook = self.blocks[self.cut].register_forward_pre_hook(give, with_kwargs=True)
        try:
            with _passing_on(self.blocks[: self.cut], self._tuples):
                return self.compute.logits(ids, lengths, training=training)
        finally:
            hook.remove()

    def close(self) -> None:
        """Nothing stays changed between two calls."""


@contextmanager
def _passing_on(blocks: list[nn.Module], tuples: bool) -> Iterator[None]:
    """Blocks that do nothing but pass on their input."""

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
