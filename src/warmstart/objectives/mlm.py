"""Masked language modelling: tokens are hidden, and guessed from their neighbours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from warmstart.objectives.base import Dataset, Loss, Objective, Setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward

REPLACED, AS_IT_IS = 0.8, 0.1
"""The share of the chosen tokens that become the mask; and that stay. The rest become any token."""


def mask_tokens(
    ids: np.ndarray,
    lengths: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_id: int,
    vocabulary: int,
    special: Collection[int],
    share: float = 0.15,
) -> tuple[np.ndarray, np.ndarray]:
    """The ids [B, L] with some tokens hidden, and which were chosen, bool [B, L].

    As for BERT (Devlin et al. 2018, A.1), but for the number: in each row `share` of the tokens
    that are not special are chosen, rounded, and at least one. Of the chosen 80 % become the mask,
    10 % any token of the vocabulary, and 10 % stay.
    """
    import numpy as np

    real = np.arange(ids.shape[1]) < lengths[:, None]
    open_ = real & ~np.isin(ids, np.array(sorted(special), ids.dtype))
    rank = np.where(open_, rng.random(ids.shape), 2.0).argsort(1).argsort(1)
    count = open_.sum(1)
    size = np.minimum(np.maximum(np.rint(share * count), 1), count)
    chosen = open_ & (rank < size[:, None])
    fate = rng.random(ids.shape)
    words = rng.integers(0, vocabulary, ids.shape, dtype=ids.dtype)
    hidden = np.where(chosen & (fate < REPLACED), mask_id, ids)
    return np.where(chosen & (fate >= REPLACED + AS_IT_IS), words, hidden), chosen


class MLM(Objective):
    """Masked language modelling (Devlin et al. 2018). Other tokens are hidden in every step; where
    nothing is learned, always the same ones."""

    heads: ClassVar[frozenset[str]] = frozenset({"masked"})

    share: float = Field(
        default=0.15, gt=0, lt=1, description="share of the tokens that are hidden"
    )

    _masking: dict[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    def setup(self, session: Setting) -> None:
        """Learn the mask, the special tokens and the size of the vocabulary."""
        tokenizer = session.tokenizer
        self._masking = {
            "mask_id": tokenizer.mask_token_id,
            "vocabulary": min(len(tokenizer), session.model.config.vocab_size),
            "special": tuple(tokenizer.all_special_ids),
            "share": self.share,
        }

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """With some tokens hidden; the targets [1, M] are the tokens behind them."""
        import torch

        batch = dataset.collate(rows)
        inputs, device = dict(batch.inputs), batch.inputs["ids"].device
        ids, lengths = inputs["ids"].cpu().numpy(), inputs["lengths"].cpu().numpy()
        hidden, chosen = mask_tokens(ids, lengths, rng, **self._masking)
        targets = torch.from_numpy(ids[chosen][None]).to(device)
        inputs["ids"] = torch.from_numpy(hidden).to(device)
        inputs["chosen"] = torch.from_numpy(chosen).to(device)
        weight = batch.weight.new_tensor(float(targets.numel()))
        return replace(batch, inputs=inputs, targets=targets, weight=weight)

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The cross-entropy of the hidden tokens, and how many of them are guessed."""
        from torch.nn.functional import cross_entropy

        logits: Tensor = model.forward(batch)[0]  # pyright: ignore[reportIndexIssue]
        targets = batch.targets[0]
        total = cross_entropy(logits, targets, reduction="sum")
        hits = (logits.detach().argmax(-1) == targets).sum()
        return Loss(total, batch.weight, {"accuracy": hits.float()})
