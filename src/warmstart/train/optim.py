"""Optimizers, the course of the learning rate, and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from warmstart.errors import RecipeError


def rate_at(step: int, total: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at `step` of `total`, counted from 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, total - rising)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1.0 - done


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) on the hidden matrices.

    Args:
        model: every parameter that requires a gradient is trained.
        learning_rate: peak of the schedule.
        total: steps of the whole run.
        hidden: what lies inside the layers, whose matrices Muon moves; embeddings and head do not.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        learning_rate: float,
        weight_decay: float,
        total: int,
        warmup: float,
        schedule: str,
        max_grad_norm: float,
        hidden: Iterable[Tensor] = (),
    ) -> None:
        decayed, rest = split_parameters(model)
        self.parameters = decayed + rest
        if not self.parameters:
            raise RecipeError("nothing to train: no weight requires a gradient")
        self.learning_rate, self.total = learning_rate, total
        self.warmup, self.schedule, self.max_grad_norm = warmup, schedule, max_grad_norm
        self._parts: list[torch.optim.Optimizer] = []
        inside = {id(p) for p in hidden} if name == "muon" else set[int]()
        matrices = [p for p in decayed if p.ndim == 2 and id(p) in inside]
        moved = {id(p) for p in matrices}
        decayed = [p for p in decayed if id(p) not in moved]
        if matrices:
            muon = torch.optim.Muon(
                matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append(muon)
        groups = [{"params": decayed, "weight_decay": weight_decay}]
        groups += [{"params": rest, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        if groups:
            self._parts.append(torch.optim.AdamW(groups, lr=learning_rate, fused=True))

    def step(self, index: int) -> tuple[float, Tensor]:
        """Clip and move; returns the learning rate and the norm of the gradient before clipping."""
        rate = self.learning_rate * rate_at(index, self.total, self.warmup, self.schedule)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(grads, foreach=True)
        factor = torch.clamp(self.max_grad_norm / (norm + 1e-6), max=1.0)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            if self.max_grad_norm > 0:
                _clip(part, factor)
            part.step()
        return rate, norm

    def state(self) -> dict[str, Tensor]:
        """Everything that the optimizers remember, by name."""
        found: dict[str, Tensor] = {}
        for part, memory in enumerate(self._memories()):
            for index, values in memory:
                for key, value in values.items():
                    found[f"{part}.{index}.{key}"] = torch.as_tensor(value)
        return found

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for part, optimizer in enumerate(self._parts):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for name, value in saved.items():
                owner, index, key = name.split(".", 2)
                if int(owner) == part:
                    home: dict[str, Any] = optimizer.state[parameters[int(index)]]
                    home[key] = value.clone()

    def _memories(self) -> list[list[tuple[int, dict[str, Any]]]]:
        return [
            [
                (index, optimizer.state[p])
                for index, p in enumerate(p for g in optimizer.param_groups for p in g["params"])
                if p in optimizer.state
            ]
            for optimizer in self._parts
        ]


def _clip(part: Any, factor: Tensor) -> None:
    """Scale the gradients by `factor`: fused AdamW does so while it reads them."""
    if isinstance(part, torch.optim.AdamW):
        vars(part).update(grad_scale=1 / factor, found_inf=torch.zeros_like(factor))
        return
    moved = [p.grad for g in part.param_groups for p in g["params"] if p.grad is not None]
    torch._foreach_mul_(moved, factor)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trained weights with weight decay, and those without: norms, biases, embeddings."""
    spared = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding) or "norm" in type(module).__name__.lower()
        for p in module.parameters(recurse=False)
    }
    decayed: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # XLNet's biases and segment embeddings are bare parameters
            bare = name.rpartition(".")[2].endswith(("bias", "embed"))
            plain = parameter.ndim >= 2 and id(parameter) not in spared and not bare
            (decayed if plain else rest).append(parameter)
    return decayed, rest
