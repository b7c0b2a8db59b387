"""An objective as a user would write it: their own module, not a line of the library changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from warmstart.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from warmstart.models.forward import Batch, Forward
    from warmstart.objectives.base import Setting


class NearTheBase(Objective):
    """Cross-entropy, and the divergence from what a frozen copy of the base says."""

    heads: ClassVar[frozenset[str]] = frozenset({"classes"})

    beta: float = Field(default=0.5, ge=0, description="weight of the divergence")

    _reference: Any = PrivateAttr(default=None)

    def setup(self, session: Setting) -> None:
        self._reference = session.reference()

    def loss(self, model: Forward, batch: Batch) -> Loss:
        logits: Any = model.forward(batch)
        with torch.no_grad():
            before: Any = self._reference.forward(batch)
        nll = cross_entropy(logits, batch.targets, reduction="sum")
        apart = kl_div(
            log_softmax(logits, -1), log_softmax(before, -1), log_target=True, reduction="sum"
        )
        hits = (logits.detach().argmax(-1) == batch.targets).sum().float()
        return Loss(nll + self.beta * apart, batch.weight, {"divergence": apart, "hits": hits})


class NoObjective:
    """Something else of that module."""
