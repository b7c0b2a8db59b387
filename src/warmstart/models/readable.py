"""Whether the fast encoder, which reads parameters in place, can express what a method changed."""

from __future__ import annotations

from typing import Any

from torch import nn

from warmstart.models.families import body_of, family_of, layers_of, word_embedding_of


def readable(model: Any) -> bool:
    """True for plain blocks and for plain low-rank changes of them; `model` is unwrapped."""
    family = family_of(model.config)
    embedding = word_embedding_of(model)
    if type(embedding) is not nn.Embedding:
        return False
    for block in layers_of(model):
        for part, path in family.post_norm_block.items():
            module = block.get_submodule(path)
            fits = _norm(module) if part.endswith("norm") else _linear(module)
            if not fits:
                return False
    body: Any = body_of(model)
    norm = body.get_submodule("embeddings.LayerNorm")
    return type(tuned_norm(norm)) is nn.LayerNorm


def tuned_norm(module: nn.Module) -> Any:
    """The trained copy inside a norm that PEFT's LN tuning wraps, or the module itself."""
    layers: Any = getattr(module, "ln_tuning_layers", None)
    if layers is None:
        return module
    wrapper: Any = module
    if wrapper.disable_adapters or wrapper.merged or len(wrapper.active_adapters) != 1:
        return wrapper.base_layer
    return layers[wrapper.active_adapters[0]]


def _norm(module: nn.Module) -> bool:
    return type(tuned_norm(module)) is nn.LayerNorm


def _linear(module: Any) -> bool:
    if type(module) is nn.Linear:
        return True
    if not hasattr(module, "lora_A") or type(getattr(module, "base_layer", None)) is not nn.Linear:
        return False
    return not (
        module.lora_variant  # DoRA and its like compute something else
        or module.disable_adapters
        or module.merged
        or any(part.bias is not None for part in module.lora_B.values())
        or set(module.active_adapters) - set(module.lora_A)
    )
