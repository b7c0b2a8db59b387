"""Vectors of texts that belong together come near; those of all others go away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from warmstart.objectives.base import Loss, Objective

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward


# Losses between vectors, each the mean over the rows that it applies to.

NOTHING = -1
"""The number of a text that is not there."""


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """The cosine of every left vector [B, H] with every right one [C, H], as [B, C]."""
    from torch.nn.functional import normalize

    return normalize(left, dim=-1) @ normalize(right, dim=-1).T


def ranking(vectors: Tensor, names: Tensor, scale: float, symmetric: bool = False) -> Tensor:
    """Each anchor's positive against all other positives and negatives of the batch
    (multiple negatives ranking, Henderson et al. 2017; InfoNCE, van den Oord et al. 2018).

    Args:
        vectors: [B, K, H]: anchor, positive and K - 2 negatives.
        names: [B, K] numbers of the texts, equal where the texts are; `NOTHING` for no text. What
            is also right for an anchor, because the positive or the anchor stands in the batch
            more than once, is no negative of it.
        symmetric: also each positive's anchor against all other anchors.
    """
    forth = _one_way(vectors[:, 0], vectors[:, 1:], names[:, 0], names[:, 1:], scale)
    if not symmetric:
        return forth
    back = _one_way(vectors[:, 1], vectors[:, :1], names[:, 1], names[:, :1], scale)
    return (forth + back) / 2


def _one_way(
    queries: Tensor, texts: Tensor, query_names: Tensor, text_names: Tensor, scale: float
) -> Tensor:
    import torch
    from torch.nn.functional import cross_entropy

    rows, kinds = text_names.shape
    names = text_names.T.reshape(-1)
    scores = scale * cosines(queries, texts.transpose(0, 1).reshape(rows * kinds, -1))
    right = (names == text_names[:, :1]) | (names == query_names[:, None])
    right[:, :rows] |= query_names[:, None] == query_names
    own = torch.arange(rows, device=queries.device)
    right[own, own] = False
    left_out = right | (names == NOTHING)
    return cross_entropy(scores.masked_fill(left_out, float("-inf")), own)


def cosent(vectors: Tensor, scores: Tensor, scale: float) -> Tensor:
    """Pairs [B, 2, H] in the order of their scores [B]: log(1 + sum of exp(scale (cos_i - cos_j)))
    over all i that score lower than j (CoSENT, Su 2022)."""
    import torch

    cosines = scale * _own_cosines(vectors)
    gaps = cosines[:, None] - cosines[None, :]
    lower = scores[:, None] < scores[None, :]
    return torch.logsumexp(torch.cat([cosines.new_zeros(1), gaps[lower]]), 0)


def cosine(vectors: Tensor, scores: Tensor) -> Tensor:
    """Squared error of the cosine of pairs [B, 2, H] against scores [B] between 0 and 1."""
    from torch.nn.functional import mse_loss

    return mse_loss(_own_cosines(vectors), scores.to(vectors.dtype))


def supervised(vectors: Tensor, classes: Tensor, scale: float) -> Tensor:
    """Texts [B, H] of one class against all others of the batch (Khosla et al. 2020, L_out). Rows
    alone in their class are only negatives."""
    import torch

    scores = scale * cosines(vectors, vectors)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    log_p = torch.log_softmax(scores.masked_fill(itself, float("-inf")), -1)
    same = (classes[:, None] == classes[None, :]) & ~itself
    mates = same.sum(1)
    rows = -log_p.masked_fill(~same, 0.0).sum(1) / mates.clamp(min=1)
    return rows.sum() / (mates > 0).sum().clamp(min=1)


def _own_cosines(vectors: Tensor) -> Tensor:
    from torch.nn.functional import cosine_similarity

    return cosine_similarity(vectors[:, 0], vectors[:, 1], dim=-1)


class Contrastive(Objective):
    """Learns from pairs, triplets, scored pairs or labelled texts; which of them, the rows say."""

    heads: ClassVar[frozenset[str]] = frozenset({"vector", "classes"})

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

    def loss(self, model: Forward, batch: Batch) -> Loss:
        vectors: Any = model.forward(batch)
        return Loss(self.mean(vectors, batch.targets) * len(batch.rows), batch.weight)

    def mean(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch's rows.

        Args:
            vectors: [B, K, H] of a text (K 1), a pair (2), or a pair with negatives (3 or more).
            targets: classes [B] of single texts; scores [B], float, of pairs; or, of pairs and
                triplets, the numbers of their texts [B, K] (see `ranking`).
        """
        if vectors.shape[1] == 1:
            return supervised(vectors[:, 0], targets, self.scale)
        if not targets.is_floating_point():
            return ranking(vectors, targets, self.scale, self.symmetric)
        if self.scored_loss == "cosent":
            return cosent(vectors, targets, self.scale)
        return cosine(vectors, targets)
