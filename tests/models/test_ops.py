"""Each private operator of torch gives what its public counterpart gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from learning import CPU  # also sets the threads
from warmstart.models.fast import ops


def noise(*shape: int) -> torch.Tensor:
    made = torch.Generator(CPU).manual_seed(sum(shape))
    return torch.randn(*shape, generator=made).requires_grad_()


def test_layer_norm() -> None:
    x, weight, bias, grad = noise(5, 8), noise(8), noise(8), noise(5, 8).detach()
    expected = F.layer_norm(x, (8,), weight, bias, 1e-6)
    y, *moments = ops.layer_norm(x, weight, bias, 1e-6)
    torch.testing.assert_close(y, expected)
    grads = ops.layer_norm_backward(grad, x, moments, weight, bias)
    wanted = torch.autograd.grad(expected, (x, weight, bias), grad)
    for ours, theirs in zip(grads, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gelu_and_softmax() -> None:
    x, grad = noise(3, 7), noise(7, 3).t().detach()
    (expected,) = torch.autograd.grad(F.gelu(x), x, grad)
    torch.testing.assert_close(ops.gelu_backward(grad, x), expected)
    soft = torch.softmax(x, -1)
    (expected,) = torch.autograd.grad(soft, x, grad)
    torch.testing.assert_close(ops.softmax_backward(grad, soft), expected)


def test_copies() -> None:
    targets, sources = [torch.zeros(3), torch.zeros(2, 2)], [torch.ones(3), torch.eye(2)]
    ops.copy_each(targets, sources)
    assert all(torch.equal(*pair) for pair in zip(targets, sources, strict=True))


def test_packed_matrix() -> None:
    weight, x = noise(16, 32).detach().bfloat16(), noise(6, 32).detach().bfloat16()
    bias = noise(16).detach().bfloat16()
    assert not ops.can_pack(weight.float())
    if not ops.can_pack(weight):
        pytest.skip("oneDNN has no bfloat16 here")
    packed = ops.pack(weight)
    for added in (bias, None):
        expected = F.linear(x.float(), weight.float(), None if added is None else added.float())
        y = ops.packed_linear(x, packed, added).float()
        torch.testing.assert_close(y, expected, atol=0.05, rtol=0.02)
