"""One layer of a post-norm encoder: its modules under the same names for every family, its
attention in plain operations, and whether it can be read in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from warmstart.models.architectures import body_of, family_of, layers_of
from warmstart.models.fast.dropout import drop


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

    def groups(self, *, cls_only: bool) -> list[list[Any]]:
        """The linear layers in the groups that are computed as one product each.

        Query, key and value are one; where the first token alone has a query, key and value.
        """
        joint = [[self.query], [self.key, self.value]]
        joint = joint if cls_only else [joint[0] + joint[1]]
        return [*joint, [self.attention_output], [self.up], [self.down]]

    @property
    def matrices(self) -> list[Any]:
        """The linear layers, query, key and value first."""
        return [module for group in self.groups(cls_only=False) for module in group]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None,
    mask: Tensor | None = None,
) -> Tensor:
    """Multi-head attention of query [B, Q, H] over key and value [B, L, H]: [B, Q, H].

    Left to autograd where a gradient is wanted.

    Args:
        bias: what is added to the scaled scores, [B, 1, 1, L] (see `padding_bias`).
        mask: which weights are kept in dropout, [B, heads, Q, L]; the result is not yet scaled.
    """
    (batch, queries, width), length = query.shape, key.shape[1]
    size = width // heads
    query = query.view(batch, queries, heads, size).transpose(1, 2)
    key = key.view(batch, length, heads, size).permute(0, 2, 3, 1)
    value = value.view(batch, length, heads, size).transpose(1, 2)
    scores = torch.matmul(query, key)
    scores = scores * size**-0.5 if bias is None else torch.add(bias, scores, alpha=size**-0.5)
    # in float32: the 16-bit softmax of torch takes four times as long for rows this short
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
    context = torch.matmul(drop(weights, mask), value)
    return context.transpose(1, 2).reshape(batch, queries, width)


def padding_bias(lengths: Tensor, length: int, dtype: torch.dtype) -> Tensor | None:
    """0 where a key is a token, very negative where it is padding: [B, 1, 1, L]; on a CPU None
    where nothing is padded."""
    padded = torch.arange(length, device=lengths.device) >= lengths[:, None]
    if lengths.device.type == "cpu" and not padded.any():
        return None
    bias = torch.zeros(padded.shape, dtype=dtype, device=lengths.device)
    return bias.masked_fill_(padded, torch.finfo(dtype).min / 2)[:, None, None, :]


def can_read(model: Any) -> bool:
    """Whether the fast encoder, which reads parameters in place, can express the model's layers.

    True for plain post-norm blocks and for plain low-rank updates of them; `model` is unwrapped.
    """
    family, body = family_of(model.config), body_of(model)
    if type(model.get_input_embeddings()) is not nn.Embedding:
        return False
    norms: list[nn.Module] = [body.get_submodule("embeddings.LayerNorm")]
    for block in layers_of(model):
        for part, path in family.post_norm_block.items():
            module = block.get_submodule(path)
            if part.endswith("norm"):
                norms.append(module)
            elif not _is_linear(module):
                return False
    return all(type(tuned_norm(norm)) is nn.LayerNorm for norm in norms)


def tuned_norm(module: nn.Module) -> Any:
    """The trained copy inside a norm that PEFT's LN tuning wraps, or the module itself."""
    layers: Any = getattr(module, "ln_tuning_layers", None)
    if layers is None:
        return module
    wrapper: Any = module
    if wrapper.disable_adapters or wrapper.merged or len(wrapper.active_adapters) != 1:
        return wrapper.base_layer
    return layers[wrapper.active_adapters[0]]


def _is_linear(module: Any) -> bool:
    """Whether this is a linear layer, plain or with plain LoRA beside it."""
    return type(module) is nn.Linear or has_plain_lora(module)


def has_plain_lora(module: Any, kinds: tuple[type, ...] = (nn.Linear,)) -> bool:
    """Whether this is a layer of such a kind with plain LoRA beside it, which is switched on."""
    if not hasattr(module, "lora_A") or type(getattr(module, "base_layer", None)) not in kinds:
        return False
    return not (
        module.lora_variant  # DoRA and its like compute something else
        or module.disable_adapters
        or module.merged
        or any(part.bias is not None for part in module.lora_B.values())
        or set(module.active_adapters) - set(module.lora_A)
    )
