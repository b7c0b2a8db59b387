"""Vectors of texts that belong together come near; those of all others go away."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from warmstart.objectives._contrastive import cosent, cosine, ranking, supervised
from warmstart.parts import Part

if TYPE_CHECKING:
    from torch import Tensor


class Contrastive(Part):
    """Learns from pairs, triplets, scored pairs or labelled texts; which of them, the rows say."""

    kind: ClassVar[str] = "objective"
    forms: ClassVar[frozenset[str]] = frozenset({"vector", "classes"})
    class_weights: ClassVar[str] = "none"

    scale: float = Field(
        default=20.0, gt=0, description="cosines are multiplied by it: 1 / temperature"
    )
    symmetric: bool = Field(
        default=False, description="pairs: also find the anchor of each positive"
    )
    scored_loss: Literal["cosent", "cosine"] = Field(
        default="cosent",
        description="scored pairs: cosent learns the order of the scores, cosine their values",
    )

    def loss(
        self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None, form: str = "vector"
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch times its rows, and its rows.

        Args:
            outputs: vectors [B, K, H] of a text (K 1), a pair (2), or a triplet (3).
            targets: classes [B] of single texts; scores [B], float, of pairs; or, of pairs and
                triplets, the numbers of their texts [B, K] (see `ranking`).
        """
        if outputs.shape[1] == 1:
            mean = supervised(outputs[:, 0], targets, self.scale)
        elif not targets.is_floating_point():
            mean = ranking(outputs, targets, self.scale, self.symmetric)
        elif self.scored_loss == "cosent":
            mean = cosent(outputs, targets, self.scale)
        else:
            mean = cosine(outputs, targets)
        return mean * len(outputs), self.weight(targets)

    def weight(
        self, targets: Tensor, weights: Tensor | None = None, form: str = "vector"
    ) -> Tensor:
        """What a batch counts: its rows."""
        return targets.new_tensor(float(len(targets)), dtype=None).float()
