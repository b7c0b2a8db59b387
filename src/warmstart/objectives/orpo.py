"""Odds ratio preference optimisation: the chosen answer is learned, and its odds are to be higher
than those of the other; no reference is needed (Hong et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from warmstart.objectives.preferences import Pairs, PreferenceObjective

if TYPE_CHECKING:
    from torch import Tensor


class Orpo(PreferenceObjective):
    """-log P(chosen) - λ log σ(log odds(chosen) - log odds(rejected)), where log P is the mean of a
    token and odds = P / (1 - P)."""

    beta: float = Field(
        default=0.1, gt=0, description="weight of the odds beside the chosen answer's loss (λ)"
    )

    @property
    def refers(self) -> bool:
        return False

    def rewards(self, pairs: Pairs) -> Tensor:
        return self.beta * pairs.means

    def cost(self, pairs: Pairs) -> Tensor:
        from torch import expm1
        from torch.nn.functional import logsigmoid

        means = pairs.means
        odds = means - (-expm1(means.clamp(max=-1e-7))).log()  # log(1 - P) near P = 1, too
        return -means[:, 0] - self.beta * logsigmoid(odds[:, 0] - odds[:, 1])
