"""Group-relative policy optimisation: what an answer is worth beside others to the same prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from warmstart.objectives.reinforcement.objective import RolloutObjective
from warmstart.objectives.reinforcement.policy import (
    Aggregation,
    Baseline,
    Ratio,
    Scale,
    group_advantages,
    kl_estimate,
    policy_terms,
    summed,
    weight,
)  # fmt: skip
from warmstart.objectives.reinforcement.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch


class GRPO(RolloutObjective):
    """Several answers to each prompt, credited by their rewards beside each other (GRPO, Shao et
    al. 2024), without a value model.

    The variants are settings. DAPO (Yu et al. 2025): `loss_type = "dapo"`, `clip_high = 0.28`. Dr.
    GRPO (Liu et al. 2025): `loss_type = "dr_grpo"`, `scale = "none"`. RLOO (Ahmadian et al. 2024):
    `advantage = "leave_one_out"`, `scale = "none"`, `ratio = "trajectory"`. GSPO (Zheng et al.
    2025): `ratio = "sequence"`, `clip = 0.0003`, `clip_high = 0.0004`.
    """

    loss_type: Aggregation = Field(
        default="grpo",
        description="grpo: every answer counts alike; dapo: every token; dr_grpo: every token, "
        "divided by the tokens that answers may have",
    )
    ratio: Ratio = Field(
        default="token",
        description="whose probability is compared with what it was: of each token, of a sequence "
        "(geometric mean, GSPO), of a trajectory (product, RLOO)",
    )
    advantage: Baseline = Field(
        default="group",
        description="a reward counts beside the mean of its group, or of the others in it (RLOO)",
    )
    scale: Scale = Field(
        default="group",
        description="advantages are divided by the standard deviation of the rewards of the group, "
        "of all, or by nothing",
    )
    drop_dead_groups: bool = Field(
        default=False,
        description="prompts whose answers all have the same reward count nothing, not even in the "
        "mean",
    )

    @model_validator(mode="after")
    def _groups(self) -> Self:
        if self.num_generations < 2:
            raise ValueError(
                "num_generations 1: an answer is credited beside others to the same prompt; take 2 "
                "or more, or objective ppo"
            )
        return self

    def credit(self, rollouts: Rollouts, most: int) -> None:
        """Each answer beside the others to its prompt."""
        import torch

        rewards = rollouts.answers["reward"]
        if self.kl_reward:
            rewards = rewards - self.kl_reward * rollouts.sums(rollouts.divergence(self.estimator))
        groups = torch.from_numpy(rewards.reshape(-1, rollouts.copies)).double()
        values = group_advantages(groups, self.advantage, self.scale).float().numpy().reshape(-1)
        rollouts.tokens["advantages"] = rollouts.of_token(values)

    def weigh(self, batch: Batch) -> Tensor:
        """The answers, or their tokens; see `loss_type`."""
        counts = batch.inputs["counts"]
        return weight(counts, self._live(batch), self.loss_type, self._limit).clamp(min=1e-6)

    def _live(self, batch: Batch) -> Tensor:
        alive = batch.inputs["alive"]
        return alive if self.drop_dead_groups else alive.new_ones(alive.shape)

    def skips(self, batches: Sequence[Batch]) -> str:
        """Why these answers teach nothing, if they do not."""
        if self.kl_loss and not self.drop_dead_groups:
            return ""
        tokens = [batch.inputs["tokens"]["advantages"] for batch in batches]
        if any(bool(values.any()) for values in tokens):
            return ""
        return "all answers to each of its prompts have the same reward"

    def policy_loss(
        self, outputs: Mapping[str, Tensor], batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped loss of each token, and the divergence."""
        inputs: Any = batch.inputs
        tokens, log_probs = inputs["tokens"], outputs["log_probs"]
        mask = inputs["counts"] & self._live(batch)[:, None]
        terms = policy_terms(
            log_probs, tokens["old"], tokens["advantages"], mask, ratio=self.ratio,
            clip=self.clip, clip_high=self.clip_high,
        )  # fmt: skip
        losses = terms.losses
        if self.kl_loss:
            gap = kl_estimate(log_probs, tokens["reference"], mask, self.estimator)
            losses = losses + self.kl_loss * gap
        metrics = {"clip_ratio": terms.clipped.sum() * inputs["share"]}
        return summed(losses, mask, self.loss_type), metrics
