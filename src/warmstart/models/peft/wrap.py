"""PEFT around a model: attaching, merging, and saving what began as PiSSA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from warmstart.errors import RunError
from warmstart.models.heads import VECTOR, carried_by
from warmstart.models.hf_calls import quiet, seeded
from warmstart.models.modules import head_names

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def task_type(model: PreTrainedModel) -> str:
    """What PEFT calls the model's task."""
    return (carried_by(type(model).__name__) or VECTOR).peft_task


def shared_settings(model: PreTrainedModel) -> dict[str, Any]:
    """The settings that every PEFT config gets: the task, and the head that is trained with it."""
    return {"task_type": task_type(model), "modules_to_save": head_names(model) or None}


def adapted(model: PreTrainedModel, config: Any, seed: int) -> Any:
    """The model with a fresh adapter that depends on `seed` alone, in eval mode throughout."""
    from peft import get_peft_model

    with quiet(), seeded(seed):
        return get_peft_model(model, config).eval()


def merged(model: Any) -> Any:
    """The plain model with the adapter in its weights and the trained head in its place."""
    from peft.utils.other import ModulesToSaveWrapper

    from warmstart.models.peft.quantization import restore

    if not can_merge(model):
        kind = model.peft_config[model.active_adapters[0]].peft_type
        raise RunError(f"an adapter of type {getattr(kind, 'value', kind)} cannot be merged")
    inner = model.get_base_model()
    restore(inner)
    # PEFT's own merging leaves trained heads wrapped after LN tuning and trips over them after IA3
    for name, module in list(inner.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            active = module.modules_to_save[module.active_adapters[0]]
            setattr(inner.get_submodule(parent), last, active)
    with quiet():
        return model.merge_and_unload()


def can_merge(model: Any) -> bool:
    """Whether the adapter is a change of the weights."""
    configs = model.peft_config.values()
    return not any(
        config.is_prompt_learning or str(getattr(config.peft_type, "value", "")) == "BOTTLENECK"
        for config in configs
    )


# A change that began at a matrix's largest singular values, saved as an ordinary LoRA.
#
# PiSSA takes its first A0, B0 out of the base: (W - s B0 A0) + s B A. On the untouched base that is
# W + s [B, -B0] [A; A0], a LoRA of twice the rank, which loads everywhere and costs no new
# decomposition.

START = "pissa_start"


def remember_pissa(model: Any) -> None:
    """Keep the first A and B of every change."""
    first = {name: p.detach().clone() for name, p in model.named_parameters() if _is_part(name)}
    object.__setattr__(model, START, first)


@contextmanager
def as_ordinary(model: Any) -> Iterator[dict[str, Tensor] | None]:
    """The weights to save in the place of the model's own, or None; its config fits meanwhile."""
    import torch

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
