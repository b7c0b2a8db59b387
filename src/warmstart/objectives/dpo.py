"""Direct preference optimisation: the answer that people chose becomes likelier than the other,
measured from the reference (Rafailov et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from warmstart.objectives.preferences import Pairs, PreferenceObjective

if TYPE_CHECKING:
    from torch import Tensor


class Dpo(PreferenceObjective):
    """With m the difference of the two answers' log-ratios to the reference:

    sigmoid: -log σ(β m), with `label_smoothing` ε that of pairs which are wrong with probability ε
    (cDPO, Mitchell 2023). hinge: max(0, 1 - β m) (SLiC, Zhao et al. 2023). ipo: (m - 1 / 2β)²
    with ratios that are means of a token (Azar et al. 2023). robust: the sigmoid loss without the
    bias of wrong pairs (Chowdhury et al. 2024).
    """

    loss_type: Literal["sigmoid", "hinge", "ipo", "robust"] = Field(
        default="sigmoid",
        description="what a pair costs: sigmoid (DPO), hinge (SLiC), ipo, or robust to wrong pairs",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        description="how dear it is to leave the reference: 0.1 to 0.5 for answers that stay near",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="share of the pairs that are labelled the wrong way round (sigmoid, robust)",
    )
    length_normalised: bool = Field(
        default=False,
        description="log-ratios are means of a token in the place of sums (ipo always has means)",
    )
    reference_free: bool = Field(
        default=False,
        description="the reference counts all answers alike, so that the chosen one is to become "
        "the likelier one itself, and not only likelier than before",
    )
    nll_weight: float = Field(
        default=0.0,
        ge=0,
        description="adds the chosen answer's own loss in nats a token, so that it does not become "
        "less likely itself (RPO, Pang et al. 2024): 0.2 to 1 where it does",
    )

    @model_validator(mode="after")
    def _fits(self) -> Dpo:
        if self.label_smoothing and self.loss_type in ("hinge", "ipo"):
            raise ValueError(
                f"label_smoothing has no meaning for loss_type {self.loss_type}; leave it out, or "
                "take sigmoid or robust"
            )
        return self

    @property
    def refers(self) -> bool:
        return not self.reference_free

    def scores(self, pairs: Pairs) -> Tensor:
        """The log-ratios [B, 2] that are compared."""
        ratios = pairs.ratios if self.refers else pairs.policy
        return ratios / pairs.sizes if self.length_normalised or self.loss_type == "ipo" else ratios

    def rewards(self, pairs: Pairs) -> Tensor:
        return self.beta * self.scores(pairs)

    def cost(self, pairs: Pairs) -> Tensor:
        from torch.nn.functional import logsigmoid, relu

        scores = self.scores(pairs)
        gap = scores[:, 0] - scores[:, 1]
        wrong = self.label_smoothing
        if self.loss_type == "hinge":
            costs = relu(1 - self.beta * gap)
        elif self.loss_type == "ipo":
            costs = (gap - 1 / (2 * self.beta)) ** 2
        else:
            right, flipped = -logsigmoid(self.beta * gap), -logsigmoid(-self.beta * gap)
            if self.loss_type == "robust":
                costs = ((1 - wrong) * right - wrong * flipped) / (1 - 2 * wrong)
            else:
                costs = (1 - wrong) * right + wrong * flipped
        return costs - self.nll_weight * pairs.means[:, 0] if self.nll_weight else costs
