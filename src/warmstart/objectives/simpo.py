"""Simple preference optimisation: the chosen answer's tokens are to be likelier on average than the
other's, by a margin; no reference is needed (Meng et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from warmstart.objectives.preferences import Pairs, PreferenceObjective

if TYPE_CHECKING:
    from torch import Tensor


class Simpo(PreferenceObjective):
    """-log σ(β (mean log P(chosen) - mean log P(rejected)) - γ), means over the tokens."""

    beta: float = Field(default=2.0, gt=0, description="what the means are multiplied by")
    gamma: float = Field(
        default=1.0,
        ge=0,
        description="the margin by which the chosen answer is to be ahead (γ; the paper has 0.3 to "
        "1.6, with β 2 to 2.5)",
    )

    @property
    def refers(self) -> bool:
        return False

    def rewards(self, pairs: Pairs) -> Tensor:
        return self.beta * pairs.means

    def cost(self, pairs: Pairs) -> Tensor:
        from torch.nn.functional import logsigmoid

        rewards = self.rewards(pairs)
        return -logsigmoid(rewards[:, 0] - rewards[:, 1] - self.gamma)
