"""Sixteen-bit copies and row gradients give what autograd would have given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from learning import CPU  # also sets the threads
from warmstart.models.fast.mixed_precision import MixedPrecision, RowGradient, mixed_linear


def layers(*sizes: tuple[int, int]) -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(fan_in, fan_out, device=CPU) for fan_in, fan_out in sizes]


def test_groups_lie_behind_one_another() -> None:
    one, two = layers((4, 3), (4, 5))
    mixed = MixedPrecision([[one.weight, two.weight], [one.bias, two.bias]], torch.bfloat16)
    mixed.refresh()
    weight = mixed.get(one.weight, two.weight)
    assert weight is not None
    assert torch.equal(weight.value, torch.cat([one.weight, two.weight]).bfloat16())
    assert weight.value.dtype == weight.grad.dtype == torch.bfloat16
    assert mixed.get(two.weight, one.weight) is None
    assert mixed.get(one.weight) is None
    assert mixed.owns(one.weight) and mixed.owns(two.bias)
    assert not mixed.owns(nn.Parameter(one.weight.data))


def test_refresh_follows_the_weights() -> None:
    (layer,) = layers((4, 3))
    mixed = MixedPrecision([[layer.weight]], torch.bfloat16)
    mixed.refresh()
    with torch.no_grad():
        layer.weight.mul_(2)
    weight = mixed.get(layer.weight)
    assert weight is not None
    assert not torch.equal(weight.value, layer.weight.bfloat16())
    mixed.refresh()
    assert torch.equal(weight.value, layer.weight.bfloat16())


def product(group: list[nn.Linear], x: torch.Tensor, mixed: MixedPrecision) -> torch.Tensor:
    dense = mixed.dense(group)
    assert dense is not None
    return mixed_linear(x, dense)


def test_product_and_gradients_equal_autograd() -> None:
    """In 32 bits the detour over the copies changes nothing; x is not contiguous on purpose."""
    group = layers((4, 3), (4, 5))
    mixed = MixedPrecision([[g.weight for g in group], [g.bias for g in group]], torch.float32)
    mixed.refresh()
    x = torch.randn(2, 7, 4, requires_grad=True)
    pull = torch.randn(2, 2, 8)
    y = product(group, x[:, ::4], mixed)
    y.backward(pull)
    mixed.collect(accumulate=False)
    ours = [x.grad, *(layer.weight.grad for layer in group), *(g.bias.grad for g in group)]
    weight = torch.cat([layer.weight.detach() for layer in group]).requires_grad_()
    bias = torch.cat([layer.bias.detach() for layer in group]).requires_grad_()
    x_again = x.detach().clone().requires_grad_()
    expected = nn.functional.linear(x_again[:, ::4], weight, bias)
    expected.backward(pull)
    assert weight.grad is not None and bias.grad is not None
    theirs = [x_again.grad, *weight.grad.split([3, 5]), *bias.grad.split([3, 5])]
    torch.testing.assert_close(y, expected)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_collect_copies_or_adds() -> None:
    group = layers((4, 3))
    mixed = MixedPrecision([[group[0].weight], [group[0].bias]], torch.bfloat16)
    mixed.refresh()
    parts = []
    for number in range(3):
        x = torch.randn(5, 4).bfloat16()
        product(group, x, mixed).sum().backward()
        weight = mixed.get(group[0].weight)
        assert weight is not None
        parts.append(weight.grad.float().clone())
        mixed.collect(accumulate=number > 0)
    grad = group[0].weight.grad
    assert grad is not None and grad.dtype == torch.float32
    torch.testing.assert_close(grad, parts[0] + parts[1] + parts[2])
    product(group, torch.ones(5, 4).bfloat16(), mixed).sum().backward()
    mixed.collect(accumulate=False)  # a new step forgets the one before
    torch.testing.assert_close(grad, torch.full((3, 4), 5.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_gradient_equals_the_dense_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dense = nn.Embedding(50, 8)
    weight = nn.Parameter(dense.weight.detach().clone())
    rows = RowGradient(weight)
    for _ in range(2):  # two micro-batches add up, and an id may repeat
        ids = torch.randint(0, 20, (3, 11))
        pull = torch.randn(3, 11, 8).to(dtype)
        ours, theirs = rows.lookup(ids), dense(ids)
        assert torch.equal(ours, theirs)
        ours.to(dtype).backward(pull)
        theirs.to(dtype).backward(pull)
    assert weight.grad is not None and dense.weight.grad is not None
    torch.testing.assert_close(weight.grad, dense.weight.grad)
    assert weight.grad[:20].abs().sum() > 0
    assert not weight.grad[20:].any()


def test_row_gradient_forgets() -> None:
    weight = nn.Parameter(torch.randn(50, 8))
    rows = RowGradient(weight)
    grad = weight.grad
    for _ in range(2):
        ids = torch.randint(0, 50, (4, 9))
        rows.lookup(ids).sum().backward()
        rows.lookup(ids + 0).sum().backward()
        assert grad is not None and grad.any()
        rows.zero()
        assert not grad.any()
    assert weight.grad is grad
