"""Optimizers, the course of the learning rate, and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from warmstart.errors import RecipeError
from warmstart.models.modules import ParamGroup
from warmstart.training.settings import Train

# Neighbours in memory as one tensor, for what moves element by element.


def flatten(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Parameters that lie behind one another in memory, as their gradients do, as one tensor each.

    What moves element by element moves faster so. The others stay as they are.
    """
    blocks: dict[int, list[nn.Parameter]] = {}
    for parameter in parameters:
        blocks.setdefault(parameter.untyped_storage().data_ptr(), []).append(parameter)
    runs: list[list[nn.Parameter]] = []
    for block in blocks.values():
        for parameter in sorted(block, key=lambda p: p.storage_offset()):
            if runs and _follows(runs[-1][-1], parameter):
                runs[-1].append(parameter)
            else:
                runs.append([parameter])
    return [_flat(run) if len(run) > 1 else run[0] for run in runs]


def _follows(before: nn.Parameter, after: nn.Parameter) -> bool:
    """Whether `after` begins where `before` ends, in the same block; and their gradients too."""
    if before.grad is None or after.grad is None:
        return False
    return all(
        a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
        and a.data_ptr() + a.nbytes == b.data_ptr()
        for a, b in ((before, after), (before.grad, after.grad))
    )


def _flat(run: list[nn.Parameter]) -> Tensor:
    """A view of neighbours, and of their gradients, as vectors."""
    size, first = sum(p.numel() for p in run), run[0]
    assert first.grad is not None
    flat = torch.as_strided(first.detach(), (size,), (1,))
    flat.grad = torch.as_strided(first.grad, (size,), (1,))
    return flat


def rate_at(step: int, total: int, settings: Train) -> float:
    """Share of the peak learning rate at `step` of `total`, counted from 0.

    After the warm-up it stays (constant), goes down to `min_rate` in a line or in half a cosine, or
    stays and goes down in a line at the end (wsd: warm-up, stable, decay; Hu et al. 2024).
    """
    rising = round(settings.warmup * total)
    if step < rising:
        return (step + 1) / rising
    if settings.schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, total - rising)
    if settings.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * done))
    elif settings.schedule == "wsd":
        left = min(1.0, (total - step) / settings.decay_steps(total))
    else:
        left = 1.0 - done
    return settings.min_rate + (1 - settings.min_rate) * left


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or Muon (Jordan et al. 2024) on the hidden matrices.

    Args:
        model: every parameter that requires a gradient is trained.
        settings: with the peak of the learning rate.
        total: steps of the whole run.
        hidden: what lies inside the layers, whose matrices Muon moves; embeddings and head do not.
        param_groups: weights with a share of the learning rate, or that wait for some epochs.
        epoch_starts: the step at which each epoch begins, for the groups that wait.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Train,
        total: int,
        *,
        hidden: Iterable[Tensor] = (),
        param_groups: Iterable[ParamGroup] = (),
        epoch_starts: Sequence[int] = (0,),
    ) -> None:
        assert settings.learning_rate
        self.settings, self.total, self.learning_rate = settings, total, settings.learning_rate
        rates, starts = dict[int, float](), dict[int, int]()
        for group in param_groups:
            first = epoch_starts[group.wait] if group.wait < len(epoch_starts) else total
            for parameter in group.parameters:
                key = id(parameter)
                rates[key] = rates.get(key, 1.0) * group.rate
                starts[key] = max(starts.get(key, 0), first, group.wait_steps)
        inside = {id(p) for p in hidden} if settings.optimizer == "muon" else set[int]()
        decayed, rest = split_parameters(model)
        if not decayed + rest:
            raise RecipeError("nothing to train: no weight requires a gradient")

        def group_of(parameter: nn.Parameter, decays: bool) -> tuple[int, bool, bool, float]:
            """When it begins to move; by AdamW; without decay; minus its share of the rate."""
            muon = decays and parameter.ndim == 2 and id(parameter) in inside
            key = id(parameter)
            return starts.get(key, 0), not muon, not decays, -rates.get(key, 1.0)

        keyed = [(group_of(p, True), p) for p in decayed] + [(group_of(p, False), p) for p in rest]
        keyed.sort(key=lambda entry: entry[0])
        names = {id(p): name for name, p in model.named_parameters()}
        self.holds: dict[str, list[str]] = {
            "adamw": [names[id(p)] for group, p in keyed if group[1]],
            "muon": [names[id(p)] for group, p in keyed if not group[1]],
        }
        """Which tensors each optimizer moves, by their names in the model."""
        self._parts: list[tuple[int, torch.optim.Optimizer]] = []
        for (start, adamw), part in groupby(keyed, lambda entry: entry[0][:2]):
            groups: list[dict[str, Any]] = []
            for (_, _, bare, share), own in groupby(part, lambda entry: entry[0]):
                parameters = [parameter for _, parameter in own]
                groups.append({
                    "params": flatten(parameters) if adamw else parameters,
                    "weight_decay": 0.0 if bare else settings.weight_decay,
                    "share": -share,
                })  # fmt: skip
            made: torch.optim.Optimizer
            if adamw:
                betas = 0.9, settings.adam_beta2
                made = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)
            else:
                decay = settings.weight_decay
                made = torch.optim.Muon(groups, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append((start, made))

    def norm(self, index: int) -> Tensor:
        """The norm of the gradient that step `index` would move by, before clipping."""
        return nn.utils.get_total_norm(_gradients(self._moving(index)), foreach=True)

    def step(self, index: int, norm: Tensor | None = None) -> tuple[float, Tensor]:
        """Clip and move; returns the learning rate and the norm of the gradient before clipping,
        which is `norm` where it is known."""
        norm = self.norm(index) if norm is None else norm
        rate = self.learning_rate * rate_at(index, self.total, self.settings)
        factor = torch.clamp(self.settings.max_grad_norm / (norm + 1e-6), max=1.0)
        for part in self._moving(index):
            for group in part.param_groups:
                group["lr"] = rate * group["share"]
            if self.settings.max_grad_norm > 0:
                _clip(part, factor)
            part.step()
        return rate, norm

    def _moving(self, index: int) -> list[torch.optim.Optimizer]:
        return [part for start, part in self._parts if start <= index]

    def state(self) -> dict[str, Tensor]:
        """Everything that the optimizers remember, by name."""
        return {
            f"{part}.{index}.{key}": torch.as_tensor(value)
            for part, (_, optimizer) in enumerate(self._parts)
            for index, parameter in enumerate(_parameters(optimizer))
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for name, value in saved.items():
            part, index, key = name.split(".", 2)
            _, optimizer = self._parts[int(part)]
            home: dict[str, Any] = optimizer.state[_parameters(optimizer)[int(index)]]
            home[key] = value.clone()


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _gradients(parts: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    return [p.grad for part in parts for p in _parameters(part) if p.grad is not None]


def _clip(part: Any, factor: Tensor) -> None:
    """Scale the gradients by `factor`: fused AdamW does so while it reads them.

    By `grad_scale` and `found_inf`, the two attributes through which `torch.amp.GradScaler.step`
    hands a fused optimizer its scale. Multiplying the gradients beforehand is a pass over all of
    them more, and rounds differently.
    """
    if isinstance(part, torch.optim.AdamW):
        vars(part).update(grad_scale=1 / factor, found_inf=torch.zeros_like(factor))
        return
    torch._foreach_mul_(_gradients([part]), factor)


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
        if parameter.requires_grad:  # XLNet's biases and IA3's factors are bare parameters
            bare = name.rpartition(".")[2].endswith(("bias", "embed")) or ".ia3_l." in name
            plain = parameter.ndim >= 2 and id(parameter) not in spared and not bare
            (decayed if plain else rest).append(parameter)
    return decayed, rest
