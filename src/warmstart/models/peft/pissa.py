"""A change that began at a matrix's largest singular values, saved as an ordinary LoRA.

PiSSA takes its first A0, B0 out of the base: (W - s B0 A0) + s B A. On the untouched base that is
W + s [B, -B0] [A; A0], a LoRA of twice the rank, which loads everywhere and costs no new
decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

START = "pissa_start"


def remember(model: Any) -> None:
    """Keep the first A and B of every change."""
    first = {name: p.detach().clone() for name, p in model.named_parameters() if _is_part(name)}
    object.__setattr__(model, START, first)


@contextmanager
def as_ordinary(model: Any) -> Iterator[dict[str, Tensor] | None]:
    """The weights to save in the place of the model's own, or None; its config fits meanwhile."""
    first: dict[str, Tensor] | None = getattr(model, START, None)
    if first is None:
        yield None
        return
    weights = dict(model.state_dict())
    for name, start in first.items():
        now = weights[name]
        weights[name] = torch.cat([now, start if "lora_A" in name else -start], _is_part(name) - 1)
    config = model.peft_config["default"]
    before = config.r, config.lora_alpha, config.init_lora_weights
    config.r, config.init_lora_weights = 2 * config.r, True
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2
    try:
        yield weights
    finally:
        config.r, config.lora_alpha, config.init_lora_weights = before


def _is_part(name: str) -> int:
    """0: neither; 1: an A, whose rows are the rank; 2: a B, whose columns are."""
    return 1 if ".lora_A." in name else 2 if ".lora_B." in name else 0
