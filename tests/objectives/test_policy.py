"""The pure functions of reinforcement learning, by hand-computed cases; faults planted in them are
noticed."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from warmstart.objectives.reinforcement.policy import (
    adapted,
    dead_groups,
    generalised_advantages,
    group_advantages,
    kl_estimate,
    on_last_token,
    policy_terms,
    summed,
    value_terms,
    weight,
    whitened,
)

REAL = torch.tensor([[True, True, False], [True, True, True]])


def close(a: Tensor, b: Any) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=1e-6)


# KL estimators (trap 36)


def exhaustive() -> tuple[Tensor, Tensor, Tensor]:
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    q = torch.tensor([0.3, 0.1, 0.2, 0.2, 0.2], dtype=torch.float64)
    return p, q, (p * (p / q).log()).sum()


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_mean_over_a_whole_vocabulary_is_the_divergence(estimator: Any):
    p, q, exact = exhaustive()
    every = torch.ones(1, 5, dtype=torch.bool)
    per_token = kl_estimate(p.log()[None], q.log()[None], every, estimator)[0]
    assert close((p * per_token).sum(), exact)
    assert close(kl_estimate(p.log()[None], p.log()[None], every, estimator), [[0.0] * 5])


def test_k3_is_never_negative_and_k2_has_the_gradient_of_the_divergence():
    torch.manual_seed(0)
    a, b = torch.randn(1, 1000), torch.randn(1, 1000)
    every = torch.ones(1, 1000, dtype=torch.bool)
    assert (kl_estimate(a, b, every, "k3") >= 0).all()
    assert (kl_estimate(a, b, every, "k1") < 0).any()
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    q = exhaustive()[1]
    p = logits.softmax(-1)
    (exact,) = torch.autograd.grad((p * (p / q).log()).sum(), logits)
    sampled = torch.ones(1, 5, dtype=torch.bool)
    k2 = kl_estimate(logits.log_softmax(-1)[None], q.log()[None], sampled, "k2")[0]
    weights = logits.detach().softmax(-1)
    (ours,) = torch.autograd.grad((weights * k2).sum(), logits)
    assert close(ours, exact)


def test_the_divergence_falls_when_it_is_all_that_is_lost():
    """Trap 35: with a constant reward, KL to the reference falls within 20 steps."""
    torch.manual_seed(0)
    logits = torch.randn(5, requires_grad=True)
    reference = torch.zeros(5).log_softmax(-1)
    optimizer, gaps = torch.optim.SGD([logits], 0.5), list[float]()
    for step in range(20):
        chances = logits.detach().softmax(-1)
        gaps.append(float((chances * (chances.log() - reference)).sum()))
        rng = torch.Generator().manual_seed(step)
        drawn = torch.multinomial(chances, 64, replacement=True, generator=rng)
        logs = logits.log_softmax(-1)[drawn][None]
        mask = torch.ones_like(logs, dtype=torch.bool)
        kl = kl_estimate(logs, reference[drawn][None], mask, "k3")
        optimizer.zero_grad()
        (summed(kl, mask, "dapo") / 64).backward()
        optimizer.step()
    assert gaps[-1] < 0.3 * gaps[0]


# Advantages (trap 37)


def test_advantages_of_a_group():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    plain = group_advantages(rewards, "group", "none")
    assert close(plain, [[0.5, -0.5, -0.5, 0.5], [0.0] * 4])
    by_group = group_advantages(rewards, "group", "group")
    spread = (1 / 3) ** 0.5 + 1e-4
    assert close(by_group[0], [0.5 / spread, -0.5 / spread, -0.5 / spread, 0.5 / spread])
    by_batch = group_advantages(rewards, "group", "batch")
    assert close(by_batch[0], plain[0] / (rewards.std() + 1e-4))
    others = group_advantages(rewards, "leave_one_out", "none")
    assert close(others[0], [1 - 1 / 3, -2 / 3, -2 / 3, 1 - 1 / 3])
    assert dead_groups(rewards).tolist() == [False, True]


@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_give_exactly_nothing(baseline: Any, scale: Any):
    rewards = torch.full((3, 7), 0.1)  # whose mean is not 0.1 to the last digit
    assert (group_advantages(rewards, baseline, scale) == 0).all()


# The clipped objective


def test_a_token_is_clipped_on_the_side_of_its_advantage():
    ratios = torch.tensor([[0.5, 1.0, 1.5, 0.5, 1.5]])
    advantages = torch.tensor([[1.0, 1.0, 1.0, -1.0, -1.0]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    terms = policy_terms(ratios.log(), torch.zeros(1, 5), advantages, mask, clip=0.2)
    assert close(terms.losses, [[-0.5, -1.0, -1.2, 0.8, 1.5]])
    assert terms.clipped.tolist() == [[False, False, True, True, False]]
    higher = policy_terms(
        ratios.log(), torch.zeros(1, 5), advantages, mask, clip=0.2, clip_high=0.28
    )
    assert close(higher.losses[0, 2], -1.28)


def test_the_ratio_of_a_sequence_and_of_a_trajectory():
    logs = torch.tensor([[0.1, 0.3, 9.0]])
    mask = torch.tensor([[True, True, False]])
    one = torch.ones(1, 1)
    options: dict[str, Any] = {"clip": 0.9, "clip_high": 9.0}
    sequence = policy_terms(logs, torch.zeros(1, 3), one, mask, ratio="sequence", **options)
    assert close(sequence.losses, [[-exp(0.2), -exp(0.2), 0.0]])
    whole = policy_terms(logs, torch.zeros(1, 3), one, mask, ratio="trajectory", **options)
    assert close(whole.losses, [[-exp(0.4), -exp(0.4), 0.0]])


def test_what_answers_count():
    terms = torch.tensor([[1.0, 3.0, 99.0], [2.0, 4.0, 6.0]])
    alive = torch.tensor([True, True])
    assert close(summed(terms, REAL, "grpo"), 2.0 + 4.0)
    assert close(summed(terms, REAL, "dapo"), 16.0) and close(summed(terms, REAL, "dr_grpo"), 16.0)
    assert [float(weight(REAL, alive, kind, 10)) for kind in ("grpo", "dapo", "dr_grpo")] == [
        2.0, 5.0, 20.0
    ]  # fmt: skip
    half = torch.tensor([False, True])  # the dead group leaves the denominator
    assert [float(weight(REAL, half, kind, 10)) for kind in ("grpo", "dapo", "dr_grpo")] == [
        1.0, 3.0, 10.0
    ]  # fmt: skip


@pytest.mark.parametrize("filling", [100.0, float("nan"), float("inf")])
@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("ratio", ["token", "sequence", "trajectory"])
def test_what_stands_at_masked_places_is_never_read(filling: float, loss: Any, ratio: Any):
    """Trap 32: neither the loss nor its gradient sees it."""

    def computed(fill: float) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        logs, old, reference, advantages = (torch.randn(2, 3) * 0.1 for _ in range(4))
        for values in (logs, old, reference, advantages):
            values[~REAL] = fill
        logs.requires_grad_()
        losses = policy_terms(logs, old, advantages, REAL, ratio=ratio).losses
        losses = losses + 0.1 * kl_estimate(logs, reference, REAL, "k3")
        total = summed(losses, REAL, loss)
        return total.detach(), torch.autograd.grad(total, logs)[0][REAL]

    for ours, plain in zip(computed(filling), computed(0.0), strict=True):
        assert torch.equal(ours, plain)


# PPO, by hand


def test_advantages_by_values():
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.4, 0.6]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, returns = generalised_advantages(rewards, values, mask, 0.9, 0.5)
    last = 1.0 - 0.6
    middle = (0.9 * 0.6 - 0.4) + 0.9 * 0.5 * last
    first = (0.9 * 0.4 - 0.5) + 0.9 * 0.5 * middle
    assert close(advantages, [[first, middle, last]])
    assert close(returns, [[first + 0.5, middle + 0.4, last + 0.6]])
    whole, _ = generalised_advantages(rewards, values, mask, 1.0, 1.0)  # the rewards alone
    assert close(whole, [[0.5, 0.6, 0.4]])


@pytest.mark.parametrize("filling", [100.0, float("nan")])
def test_values_behind_the_end_do_not_leak(filling: float):
    rewards, values = torch.zeros(2, 3), torch.full((2, 3), 0.5)
    rewards[0, 1] = rewards[1, 2] = 1.0
    plain = generalised_advantages(rewards, values, REAL, 1.0, 0.95)
    rewards[~REAL], values[~REAL] = filling, filling
    other = generalised_advantages(rewards, values, REAL, 1.0, 0.95)
    assert torch.equal(plain[0], other[0]) and torch.equal(plain[1][REAL], other[1][REAL])
    assert torch.equal(
        value_terms(values, values, plain[1], REAL, 0.2).nan_to_num(7.0)[~REAL], torch.zeros(1)
    )
    white = whitened(values, REAL)
    assert torch.isfinite(white).all()


def test_the_score_stands_on_the_last_token():
    """Trap 31: not on the padding behind it, also where padding stands in the middle."""
    scores = torch.tensor([3.0, 5.0])
    assert on_last_token(scores, REAL).tolist() == [[0.0, 3.0, 0.0], [0.0, 0.0, 5.0]]


def test_whitening():
    values = torch.tensor([[1.0, 2.0, 50.0], [3.0, 4.0, 5.0]])
    white = whitened(values, REAL)
    real = white[REAL]
    assert close(real.mean(), 0.0) and close(real.var(), 1.0) and white[0, 2] == 0
    kept = whitened(values, REAL, shift=False)[REAL]
    assert close(kept.mean(), 3.0) and close(kept.var(), 1.0)


def test_the_value_loss_is_the_larger_of_two():
    values, old = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    returns, mask = torch.tensor([[1.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert close(value_terms(values, old, returns, mask, 0.2), [[0.8**2 / 2, 0.5]])
    assert close(value_terms(values, old, returns, mask, None), [[0.0, 0.5]])


def test_the_divergence_is_steered():
    assert adapted(0.1, kl=6.0, target=6.0, share=1.0) == pytest.approx(0.1)
    assert adapted(0.1, kl=60.0, target=6.0, share=0.5) == pytest.approx(0.1 * 1.1)
    assert adapted(0.1, kl=5.4, target=6.0, share=1.0) == pytest.approx(0.1 * 0.9)


# Faults that others had, planted: each of the checks above would notice it


def hand_loss(**fault: Any) -> float:
    """A loss of two answers, computed by hand with a fault in it."""
    old = torch.tensor([[log(0.5), log(0.4), 0.0], [log(0.9), log(0.2), log(0.6)]])
    new = torch.tensor([[log(0.6), log(0.4), 0.0], [log(0.8), log(0.3), log(0.6)]])
    if fault.get("shift"):  # the label of the token before
        new = new.roll(1, dims=1)
    advantages = torch.tensor([[1.0], [-1.0]]) * (-1 if fault.get("sign") else 1)
    reference = old - 0.1
    terms = policy_terms(new, old, advantages, REAL)
    kl = kl_estimate(new, reference, REAL, "k3") * (2 if fault.get("doubled") else 1)
    return float(summed(terms.losses + 0.5 * kl, REAL, "grpo") / 2)


def test_the_hand_computed_loss():
    kl = [
        [exp(-0.1) * 0.5 / 0.6 - log(exp(-0.1) * 0.5 / 0.6) - 1, exp(-0.1) + 0.1 - 1],
        [r * exp(-0.1) - log(r * exp(-0.1)) - 1 for r in (0.9 / 0.8, 0.2 / 0.3, 1.0)],
    ]
    first = ((-1.2 + 0.5 * kl[0][0]) + (-1.0 + 0.5 * kl[0][1])) / 2
    ratios = [max(0.8 / 0.9, 0.8), 1.5, 1.0]  # held only where that makes it worse
    second = sum(r + 0.5 * k for r, k in zip(ratios, kl[1], strict=True)) / 3
    right = (first + second) / 2
    assert hand_loss() == pytest.approx(right, abs=1e-6)
    for fault in ("sign", "shift", "doubled"):
        assert abs(hand_loss(**{fault: True}) - right) > 1e-3, fault
