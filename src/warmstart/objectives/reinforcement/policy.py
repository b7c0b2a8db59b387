"""What reinforcement learning of a language model computes of answers that it wrote itself:
advantages, ratios of probabilities, divergences, losses. Every function is pure.

[B] are answers, [B, T] their tokens; `mask` [B, T] is true where an answer has a token that counts.
What stands at other places is never read, not even multiplied by 0, so that it may be anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
Aggregation = Literal["grpo", "dapo", "dr_grpo"]
Ratio = Literal["token", "sequence", "trajectory"]
Baseline = Literal["group", "leave_one_out"]
Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4
"""Added to a standard deviation that advantages are divided by, as TRL does."""


def kl_estimate(log_probs: Tensor, reference: Tensor, mask: Tensor, estimator: Estimator) -> Tensor:
    """Of each token what it says of the divergence KL(policy ‖ reference), in nats, where the token
    was drawn from the policy (Schulman 2020, "Approximating KL divergence").

    The mean of k1 = log(p/q) and of k3 = q/p - 1 - log(q/p) is the divergence itself; k3 is never
    negative and varies less. k2 = log(p/q)² / 2 is biased, and its gradient is the divergence's.

    Args:
        log_probs: [B, T] of the tokens under the policy p.
        reference: [B, T] of the same tokens under the reference q.
    """
    gap = (reference - log_probs).masked_fill(~mask, 0.0)
    if estimator == "k1":
        return -gap
    if estimator == "k2":
        return gap.square() / 2
    return gap.exp() - gap - 1


def dead_groups(rewards: Tensor) -> Tensor:
    """Which groups [G] of rewards [G, n] are all alike, so that nothing can be learned of them."""
    return (rewards == rewards[:, :1]).all(1)


def group_advantages(rewards: Tensor, baseline: Baseline, scale: Scale) -> Tensor:
    """How much better each answer is than the others to its prompt, [G, n] of rewards [G, n].

    `group`: its reward minus the mean of the group (GRPO, Shao et al. 2024); `leave_one_out`: minus
    the mean of the others (RLOO, Ahmadian et al. 2024). Divided by the (unbiased) standard
    deviation of the group or of all rewards, or by nothing (Dr. GRPO, Liu et al. 2025). Exactly 0
    in a group of equal rewards.
    """
    count = rewards.shape[1]
    mean = rewards.mean(1, keepdim=True)
    if baseline == "leave_one_out":
        mean = (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
    advantages = rewards - mean
    if scale == "group":
        advantages = advantages / (rewards.std(1, keepdim=True) + EPSILON)
    elif scale == "batch":
        advantages = advantages / (rewards.std() + EPSILON)
    return advantages.masked_fill(dead_groups(rewards)[:, None], 0.0)


class PolicyTerms(NamedTuple):
    """Of each token of answers [B, T].

    Args:
        losses: what is to become less; 0 where nothing counts.
        clipped: whether the ratio was held at its bound, so that the token has no gradient.
    """

    losses: Tensor
    clipped: Tensor


def policy_terms(
    log_probs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    ratio: Ratio = "token",
    clip: float = 0.2,
    clip_high: float | None = None,
) -> PolicyTerms:
    """The clipped objective of PPO (Schulman et al. 2017, equation 7), negated, of each token.

    Args:
        log_probs: [B, T] under the policy that is trained.
        old: [B, T] under the policy that wrote the answers.
        advantages: [B, 1] of answers, or [B, T] of tokens.
        ratio: of each `token`; of a `sequence`, the geometric mean of its tokens' (GSPO, Zheng et
            al. 2025); of a `trajectory`, their product (RLOO).
        clip: the ratio is held between 1 - clip and 1 + clip_high.
        clip_high: unset: as `clip`; higher lets rare tokens grow ("clip-higher", DAPO, Yu et al.
            2025).
    """
    logs = (log_probs - old).masked_fill(~mask, 0.0)
    if ratio != "token":
        logs = logs.sum(1, keepdim=True)
        if ratio == "sequence":
            logs = logs / mask.sum(1, keepdim=True).clamp(min=1)
        logs = logs.expand(mask.shape)
    weights = logs.exp()
    advantages = advantages.expand(mask.shape).masked_fill(~mask, 0.0)
    low, high = 1 - clip, 1 + (clip if clip_high is None else clip_high)
    held = weights.clamp(low, high)
    losses = -(weights * advantages).minimum(held * advantages)
    beyond = ((weights < low) & (advantages < 0)) | ((weights > high) & (advantages > 0))
    return PolicyTerms(losses.masked_fill(~mask, 0.0), beyond & mask)


def summed(terms: Tensor, mask: Tensor, loss: Aggregation) -> Tensor:
    """The terms [B, T] of tokens as one sum, to be divided by the `weight` of all answers.

    `grpo`: of the means of the answers, so that each answer counts alike; `dapo` and `dr_grpo`: of
    all tokens alike.
    """
    terms = terms.masked_fill(~mask, 0.0)
    if loss == "grpo":
        return (terms.sum(1) / mask.sum(1).clamp(min=1)).sum()
    return terms.sum()


def weight(mask: Tensor, live: Tensor, loss: Aggregation, limit: int) -> Tensor:
    """What answers count, of which only those in `live` [B] do: `grpo` their number, `dapo` that of
    their tokens, `dr_grpo` a constant for each, `limit`, the tokens that it may have."""
    if loss == "dapo":
        return (mask & live[:, None]).sum().float()
    return live.sum().float() * (limit if loss == "dr_grpo" else 1)


def generalised_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, decay: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of tokens [B, T] (GAE, Schulman et al. 2016, equation 16).

    Args:
        rewards: [B, T] of each token; that of the whole answer on its last one.
        values: [B, T] what the value head expects before each token.
        gamma: what a reward one token later is worth.
        decay: lambda: 0 trusts the next value alone, 1 nothing but the rewards.
    """
    import torch

    rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
    after, gathered = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    columns: list[Tensor] = []
    for place in reversed(range(rewards.shape[1])):
        surprise = rewards[:, place] + gamma * after - values[:, place]
        gathered = (surprise + gamma * decay * gathered).masked_fill(~mask[:, place], 0.0)
        after = values[:, place]
        columns.append(gathered)
    advantages = torch.stack(columns[::-1], 1)
    return advantages, advantages + values


def on_last_token(scores: Tensor, mask: Tensor) -> Tensor:
    """The score of each answer [B] on its last token [B, T], and 0 elsewhere."""
    import torch

    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).amax(1, keepdim=True)
    return scores[:, None].masked_fill((places != last) | ~mask, 0.0)


def whitened(values: Tensor, mask: Tensor, *, shift: bool = True) -> Tensor:
    """Values of tokens [B, T] with mean 0 (or, without `shift`, their own mean) and (unbiased)
    variance 1 over all tokens that count; 0 elsewhere."""
    real = values[mask]
    if real.numel() < 2:
        return values.masked_fill(~mask, 0.0)
    mean = real.mean()
    scaled = (values - mean) * (real.var() + 1e-8).rsqrt()
    return (scaled if shift else scaled + mean).masked_fill(~mask, 0.0)


def value_terms(
    values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float | None
) -> Tensor:
    """Half the squared error of the value head at each token [B, T]: the larger one of that of its
    values and of these held within `clip` of what they were when the answers were written."""
    values, old = values.masked_fill(~mask, 0.0), old.masked_fill(~mask, 0.0)
    returns = returns.masked_fill(~mask, 0.0)
    errors = (values - returns).square()
    if clip is not None:
        held = old + (values - old).clamp(-clip, clip)
        errors = errors.maximum((held - returns).square())
    return errors / 2


def adapted(coefficient: float, kl: float, target: float, share: float) -> float:
    """The coefficient of the divergence for the next answers, so that it comes to be about `target`
    (Ziegler et al. 2019, section 2.2): higher where `kl` was above it, by at most 20 % times
    `share`, the part of the horizon that has gone by."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * share)
