"""Proximal policy optimisation: a value head says what an answer is worth before it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from warmstart.errors import RecipeError
from warmstart.objectives.reinforcement.objective import RolloutObjective
from warmstart.objectives.reinforcement.policy import (
    adapted,
    generalised_advantages,
    on_last_token,
    policy_terms,
    summed,
    value_terms,
    whitened,
)  # fmt: skip
from warmstart.objectives.reinforcement.rollouts import Rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward
    from warmstart.objectives.base import Setting


class PPO(RolloutObjective):
    """PPO for language models (Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al. 2022).

    The value head is a layer on the last hidden states of the policy itself, begins at 0, and is
    taken off when the run is saved. The divergence from the base is taken off the reward of each
    token.
    """

    num_generations: int = Field(
        default=1, ge=1, le=4096, description="answers that are written to each prompt"
    )
    steps_per_generation: int = Field(
        default=4, ge=1, le=4096, description="steps that learn from answers written at once"
    )
    iterations: int = Field(
        default=4,
        ge=1,
        le=64,
        description="how often each answer is learned from, within the steps_per_generation",
    )
    kl_reward: float = Field(
        default=0.05,
        ge=0,
        description="weight of the divergence from the base, taken off the reward",
    )
    kl_target: float | None = Field(
        default=None,
        gt=0,
        description="divergence of an answer, in nats, that kl_reward is adapted to; unset: "
        "kl_reward stays",
    )
    kl_horizon: int = Field(
        default=10_000, ge=1, description="answers over which kl_reward is adapted"
    )
    gamma: float = Field(default=1.0, ge=0, le=1, description="worth of a reward a token later")
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1, description="0: trust the value head alone; 1: the rewards alone"
    )
    value_weight: float = Field(default=0.1, ge=0, description="of the value head's loss")
    value_clip: float | None = Field(
        default=0.2, gt=0, description="how far values may go from the old ones at once"
    )
    whiten_rewards: bool = Field(
        default=False, description="rewards of tokens with variance 1 before they are credited"
    )
    whiten_advantages: bool = Field(
        default=True, description="advantages of tokens with mean 0 and variance 1"
    )

    _coefficient: float = PrivateAttr(default=0.0)
    """The present weight of the divergence."""

    @model_validator(mode="after")
    def _adapts(self) -> Self:
        if self.kl_target is not None and not self.kl_reward:
            raise ValueError(
                "kl_target adapts kl_reward, which is 0; give kl_reward a start, such as 0.05"
            )
        return self

    def setup(self, session: Setting) -> None:
        """Put the value head beside the model."""
        import torch

        from warmstart.models.head_layers import unwrap

        super().setup(session)
        inner: Any = unwrap(session.model)
        if not session.forward.language.chunked:
            raise RecipeError(
                f"objective ppo reads what stands before the output matrix, and "
                f"'{inner.config.model_type}' changes its logits behind it; take objective grpo"
            )
        width = inner.get_output_embeddings().weight.shape[1]
        head = torch.nn.Linear(width, 1, device=session.device)
        with torch.no_grad():
            head.weight.zero_()
            head.bias.zero_()
        inner.value_head = head
        self._coefficient = self.kl_reward

    def detach(self, model: Any) -> Mapping[str, Any]:
        """Take the value head off."""
        from warmstart.models.head_layers import unwrap

        inner: Any = unwrap(model)
        if hasattr(inner, "value_head"):
            del inner.value_head
        return {}

    def beside(
        self, forward: Forward, states: Any, nothing: Tensor, real: Tensor
    ) -> dict[str, Tensor]:
        """What the value head expects before each token."""
        from warmstart.models.head_layers import unwrap

        inner: Any = unwrap(forward.model)
        if not hasattr(inner, "value_head"):  # the reference
            return {}
        values = inner.value_head(states.hidden).float()[:, 0]
        return {"values": nothing.masked_scatter(real, values)}

    def credit(self, rollouts: Rollouts, most: int) -> None:
        """Advantages and returns of each token (GAE); then the weight of the divergence for the
        next answers."""
        import torch

        values = self.scores(self._session.forward, rollouts, most)["values"]
        held = bool(self.kl_reward)
        penalty = rollouts.divergence(self.estimator) if held else np.zeros_like(values)
        offsets, lengths = rollouts.offsets, rollouts.lengths
        places = torch.arange(int(lengths.max()))
        mask = places < torch.from_numpy(lengths)[:, None]
        at = (torch.from_numpy(offsets[:-1])[:, None] + places).clamp(max=int(offsets[-1]) - 1)
        score = torch.from_numpy(rollouts.answers["reward"]).float()
        costs = torch.from_numpy(penalty)[at].masked_fill(~mask, 0.0)
        rewards = on_last_token(score, mask) - self._coefficient * costs
        if self.whiten_rewards:
            rewards = whitened(rewards, mask, shift=False)
        own = torch.from_numpy(values)[at]
        advantages, returns = generalised_advantages(
            rewards, own, mask, self.gamma, self.gae_lambda
        )
        if self.whiten_advantages:
            advantages = whitened(advantages, mask)
        rollouts.tokens |= {
            "values": values, "advantages": advantages[mask].numpy(),
            "returns": returns[mask].numpy(),
        }  # fmt: skip
        if self.kl_target is not None:
            rollouts.facts["kl_reward"] = self._coefficient
            mean = float(costs.sum(1).mean())
            share = len(lengths) / self.kl_horizon
            self._coefficient = adapted(self._coefficient, mean, self.kl_target, share)

    def policy_loss(
        self, outputs: Mapping[str, Tensor], batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped loss of each token, and that of the value head."""
        inputs: Any = batch.inputs
        tokens, mask = inputs["tokens"], inputs["counts"]
        terms = policy_terms(
            outputs["log_probs"], tokens["old"], tokens["advantages"], mask, clip=self.clip,
            clip_high=self.clip_high,
        )  # fmt: skip
        errors = value_terms(
            outputs["values"], tokens["values"], tokens["returns"], mask, self.value_clip
        )
        missed = summed(errors, mask, "dapo")
        metrics = {"clip_ratio": terms.clipped.sum() * inputs["share"],
                   "value_loss": missed.detach()}  # fmt: skip
        return summed(terms.losses, mask, "dapo") + self.value_weight * missed, metrics

    def state(self) -> dict[str, Tensor]:
        """See the base; and the weight of the divergence."""
        import torch

        own = torch.tensor(self._coefficient, dtype=torch.float64)
        return super().state() | {"coefficient": own}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        rest = dict(state)
        self._coefficient = float(rest.pop("coefficient"))
        super().load_state(rest)
