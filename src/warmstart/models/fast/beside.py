"""Frozen linear layers with low-rank updates, in any model of transformers, in bf16 on a CPU.

Under autocast PEFT's layer brings its frozen matrix into 16 bits in every call, and its update
takes a dozen small operations forward and as many backward. Here the matrix stands there in 16
bits, in the order of oneDNN, and nothing is left but the products. In float32, and wherever a layer
computes anything else than W x + b + s B A x, it is PEFT's own (tests/models/test_beside.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from warmstart.models.fast.block import has_plain_lora
from warmstart.models.fast.lora import FrozenLinears

LINEAR = (nn.Linear, Conv1D)
"""The second is GPT-2's, whose matrix stands the other way round."""
PACKED = 250_000_000
"""Weights of a model up to which a matrix is kept in two orders (4 bytes a weight), for the pass
forward and the one back; those of a larger one are kept once (2 bytes)."""


def compute_beside(model: nn.Module) -> int:
    """Have the layers of a model that PEFT's LoRA wraps computed so; returns how many."""
    modules: list[Any] = [*model.modules()]
    layers = [module for module in modules if has_plain_lora(module, LINEAR)]
    whole = sum(module.base_layer.weight.numel() for module in layers) > PACKED
    for module in layers:
        vars(module)["forward"] = LeanLora(module, whole=whole)
    return len(layers)


class LeanLora:
    """The forward pass of a layer of PEFT's LoRA."""

    def __init__(self, module: Any, *, whole: bool = False) -> None:
        self._module, self._whole = module, whole
        self._frozen: FrozenLinears | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        """Without the 16-bit matrix, which a copy makes for itself."""
        return vars(self) | {"_frozen": None}

    def __call__(self, x: Tensor, *more: Any, **named: Any) -> Tensor:
        module = self._module
        if more or named or not self._applies(x):
            return type(module).forward(module, x, *more, **named)
        if self._frozen is None:
            base = module.base_layer
            weight = base.weight.t() if type(base) is Conv1D else base.weight
            layer: Any = SimpleNamespace(weight=weight, bias=base.bias)
            self._frozen = FrozenLinears(
                [layer], lambda p: p.detach().bfloat16().contiguous(), whole=self._whole
            )
        (name,) = module.active_adapters
        down, up = module.lora_A[name].weight, module.lora_B[name].weight
        adapted: Any = _Adapted
        return adapted.apply(x, down, up, float(module.scaling[name]), self._frozen)

    def _applies(self, x: Tensor) -> bool:
        module = self._module
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return False
        if torch.get_autocast_dtype("cpu") != torch.bfloat16 or not has_plain_lora(module, LINEAR):
            return False
        if len(module.active_adapters) != 1 or any(
            p.requires_grad for p in module.base_layer.parameters()
        ):
            return False
        dropout = module.lora_dropout[module.active_adapters[0]]
        return not (dropout.training and getattr(dropout, "p", 0.0))


class _Adapted(torch.autograd.Function):
    """W x + b + s B A x [..., out] of x [..., in] in bf16, with the gradients of x, A and B."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, down: Tensor, up: Tensor, scale: float, frozen: FrozenLinears
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).bfloat16()
        down16, up16 = down.bfloat16(), (up * scale).bfloat16()
        low = torch.mm(flat, down16.t())
        y = frozen.base_output(flat).addmm_(low, up16.t())
        ctx.save_for_backward(flat, low, down16, up16)
        ctx.shape, ctx.dtype, ctx.scale, ctx.frozen = x.shape, x.dtype, scale, frozen
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        flat, low, down, up = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1]).bfloat16()
        low_grad, x_grad, down_grad, up_grad = torch.mm(grad, up), None, None, None
        if ctx.needs_input_grad[1]:
            down_grad = torch.mm(low_grad.t(), flat).float()
        if ctx.needs_input_grad[2]:
            up_grad = torch.mm(grad.t(), low).float().mul_(ctx.scale)
        if ctx.needs_input_grad[0]:
            x_grad = ctx.frozen.base_input_grad(grad, None).addmm_(low_grad, down)
            x_grad = x_grad.view(ctx.shape).to(ctx.dtype)
        return x_grad, down_grad, up_grad, None, None
