"""Dropout from a pool is dropout: the rate, the mean, no pattern, and repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from learning import CPU
from warmstart.models.fast.dropout import DropoutPool, drop, drop_add


def pool_of(p: float, dtype: torch.dtype = torch.float32, size: int = 1 << 20) -> DropoutPool:
    pool = DropoutPool(p, dtype, CPU, size)
    pool.refill(7)
    pool.begin_step(1)
    return pool


def kept(mask: torch.Tensor) -> np.ndarray:
    assert set(mask.unique().tolist()) <= {0, -1}
    return (mask != 0).numpy()


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rate(p: float, dtype: torch.dtype) -> None:
    """The share that is dropped is p, within what chance allows."""
    mask = pool_of(p, dtype).mask(300, 1000)
    dropped = int((~kept(mask)).sum())
    assert binomtest(dropped, mask.numel(), p).pvalue > 1e-4


def test_scaled_output_has_the_mean_of_its_input() -> None:
    pool, x = pool_of(0.1), torch.linspace(-1, 3, 64)
    total = torch.zeros_like(x)
    for step in range(4000):
        pool.begin_step(step)
        total += drop(x, pool.mask(64)) * pool.scale
    # one element scatters by x sqrt(p / (1 - p) / 4000); five times that
    assert ((total / 4000 - x).abs() <= 5 * x.abs() * (0.1 / 0.9 / 4000) ** 0.5 + 1e-6).all()


def test_the_seed_decides() -> None:
    pool, again = pool_of(0.2), pool_of(0.2)
    first = [pool.mask(4, 500).clone() for _ in range(3)]
    assert all(torch.equal(mask, again.mask(4, 500)) for mask in first)
    assert not torch.equal(first[0], first[1])
    pool.begin_step(1)
    assert torch.equal(pool.mask(4, 500), first[0])
    pool.begin_step(2)
    assert not torch.equal(pool.mask(4, 500), first[0])
    pool.refill(8)
    pool.begin_step(1)
    assert not torch.equal(pool.mask(4, 500), first[0])


def test_neighbours_know_nothing_of_each_other() -> None:
    """Along both axes, across rows and between uses the correlation is what chance gives."""
    pool = pool_of(0.3)
    one, other = (kept(pool.mask(500, 512)).astype(float) - 0.7 for _ in range(2))
    limit = 5 / np.sqrt(one.size)
    pairs = [(one[:, :-lag], one[:, lag:]) for lag in (1, 2, 8, 64)]
    pairs += [(one[:-1], one[1:]), (one[:-2], one[2:])]
    for left, right in pairs:
        assert abs((left * right).mean() / 0.21) < limit
    assert abs((one * other).mean() / 0.21) < 0.05


def test_a_mask_larger_than_the_pool() -> None:
    """It is as random as a small one, and what follows does not depend on its having been asked
    for: a run that begins again after it goes the same way."""
    pool = DropoutPool(0.1, torch.float32, CPU, size=1 << 12)
    pool.refill(7)
    pool.begin_step(1)
    large = pool.mask(8, 4096).clone()
    assert 0.085 < (~kept(large)).mean() < 0.115
    assert not torch.equal(large[0], large[1])
    pool.begin_step(2)
    after = pool.mask(300).clone()
    fresh = DropoutPool(0.1, torch.float32, CPU, size=1 << 12)
    fresh.refill(7)
    fresh.begin_step(2)
    assert torch.equal(fresh.mask(300), after)
    fresh.begin_step(1)
    assert torch.equal(fresh.mask(8, 4096), large)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drop_add_is_the_residual_and_what_was_kept(dtype: torch.dtype) -> None:
    pool = pool_of(0.4, dtype)
    residual, x = torch.randn(2, 30, 16).to(dtype), torch.randn(2, 30, 16).to(dtype)
    mask = pool.mask(2, 30, 16)
    expected = residual.float() + torch.where(mask != 0, x, 0).float() * pool.scale
    found = drop_add(residual, x, mask, pool.scale)
    slack = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.float(), expected, atol=slack, rtol=slack)
    assert torch.equal(drop_add(residual, x, None, pool.scale), residual + x)
    assert torch.equal(drop(x, mask), torch.where(mask != 0, x, 0))
    assert drop(x, None) is x


def test_backward_uses_the_same_mask() -> None:
    """By hand, as the functions take 32 bits at most, and with a gradient that lies transposed."""
    pool = pool_of(0.4)
    mask = pool.mask(30, 16)
    kept_ = (mask != 0).float()
    residual, x = (torch.randn(30, 16, requires_grad=True) for _ in range(2))
    pull = torch.randn(16, 30).t()
    drop_add(residual, x, mask, pool.scale).backward(pull)
    torch.testing.assert_close(residual.grad, pull)
    torch.testing.assert_close(x.grad, pull * kept_ * pool.scale)
    x.grad = None
    drop(x, mask).backward(pull)
    torch.testing.assert_close(x.grad, pull * kept_)
