"""The operators that the fast encoder needs from outside of torch's public interface.

They stand here alone, so that one file tells what a new version of torch may break
(tests/models/test_ops.py holds each against its public counterpart).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PACKED_FOR = 512
"""Rows of the input that the order of a packed matrix is best for; right for any."""

gelu_backward = torch.ops.aten.gelu_backward
"""(gradient of gelu(x), x) -> gradient of x."""
copy_each = torch._foreach_copy_
"""(targets, sources): every source into its target, in one call."""


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    """The norm of x [n, H], and the means and inverse deviations of its rows."""
    return torch.native_layer_norm(x, weight.shape, weight, bias, eps)


def layer_norm_backward(
    grad: Tensor, x: Tensor, moments: Sequence[Tensor], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of input, weight and bias; `moments` are the last two of `layer_norm`."""
    wanted = [True, weight.requires_grad, bias.requires_grad]
    return torch.ops.aten.native_layer_norm_backward(
        grad, x, weight.shape, *moments, weight, bias, wanted
    )


def softmax_backward(grad: Tensor, soft: Tensor) -> Tensor:
    """The gradient of the scores whose softmax over the last dimension is `soft`, in float32."""
    return torch.ops.aten._softmax_backward_data(grad, soft, -1, torch.float32)


def can_pack(weight: Tensor) -> bool:
    """Whether products in this type read a matrix in an order of oneDNN's own."""
    if weight.dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(weight: Tensor) -> Tensor:
    """The matrix in that order, into which every product would else bring it again."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_FOR)


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b with the packed W."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
