"""A reward model: the answer that people chose gets the higher number (Bradley & Terry 1952;
Ouyang et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward


class Reward(Objective):
    """-log σ(chosen - rejected - margin), where a margin is a column of the data: by how much the
    one was better (Touvron et al. 2023)."""

    heads: ClassVar[frozenset[str]] = frozenset({"reward"})
    tasks: ClassVar[frozenset[str] | None] = frozenset({"reward"})
    aligns: ClassVar[bool] = True

    center: float = Field(
        default=0.0,
        ge=0,
        description="adds so many times (chosen + rejected)², which holds rewards around 0; 0.01 "
        "does (Eisenstein et al. 2023)",
    )

    def loss(self, model: Forward, batch: Batch) -> Loss:
        outputs: Any = model.forward(batch)
        chosen, rejected = outputs.view(2, -1)
        gaps = chosen - rejected
        figures = {"margin": gaps, "preferred": (gaps.sign() + 1) / 2}
        sums = {name: value.sum().detach() for name, value in figures.items()}
        return Loss(self.cost(chosen, rejected, batch.targets).sum(), batch.weight, sums)

    def cost(self, chosen: Tensor, rejected: Tensor, margins: Tensor) -> Tensor:
        """The loss of each pair [B], from the rewards of its answers [B]; margins [B] are numbers
        where the data have some."""
        from torch.nn.functional import logsigmoid

        gaps = chosen - rejected
        if margins.is_floating_point():
            gaps = gaps - margins
        costs = -logsigmoid(gaps)
        return costs + self.center * (chosen + rejected) ** 2 if self.center else costs
