"""Masked language modelling: tokens are hidden, and guessed from their neighbours."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.language import LanguageObjective, summed_nll

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward
    from warmstart.objectives.language import Vocabulary

REPLACED, AS_IT_IS = 0.8, 0.1
"""The share of the chosen tokens that become the mask; and that stay. The rest become any token."""
SPAN_END, LONGEST_SPAN = 0.2, 10
"""Of SpanBERT: the chance with each word that a span ends with it, and the most words of one."""
STATIC = 17
"""Tells the random numbers of masks that stay from others of the same row."""


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
    10 % any token of the vocabulary that is not special, and 10 % stay.
    """
    open_ = maskable(ids, lengths, special)
    rank = np.where(open_, rng.random(ids.shape), 2.0).argsort(1).argsort(1)
    count = open_.sum(1)
    size = np.minimum(np.maximum(np.rint(share * count), 1), count)
    chosen = open_ & (rank < size[:, None])
    ordinary = np.setdiff1d(np.arange(vocabulary), np.array(sorted(special), np.int64))
    return replaced(ids, chosen, rng.random(ids.shape), rng, mask_id, ordinary), chosen


def maskable(ids: np.ndarray, lengths: np.ndarray, special: Collection[int]) -> np.ndarray:
    """Which tokens may be hidden, bool [B, L]."""
    real = np.arange(ids.shape[1]) < lengths[:, None]
    return real & ~np.isin(ids, np.array(sorted(special), ids.dtype))


def replaced(
    ids: np.ndarray, chosen: np.ndarray, fate: np.ndarray, rng: np.random.Generator,
    mask_id: int, ordinary: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The ids [B, L] with the chosen ones hidden, each by its fate in [0, 1)."""
    words = ordinary[rng.integers(0, len(ordinary), ids.shape)].astype(ids.dtype)
    hidden = np.where(chosen & (fate < REPLACED), mask_id, ids)
    return np.where(chosen & (fate >= REPLACED + AS_IT_IS), words, hidden)


def choose_words(
    starts: np.ndarray, open_: np.ndarray, share: float, rng: np.random.Generator, *, spans: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens of one row [L] are hidden, in whole words, until `share` of those that may be
    are; and one random number [L] for all tokens of a span.

    `starts` says where words begin. A span is one word, or, as in SpanBERT (Joshi et al. 2020),
    several neighbours: their number is geometric with 0.2, at most 10.
    """
    chosen, fate = np.zeros(len(starts), bool), np.zeros(len(starts))
    begins = starts.copy()
    begins[1:] |= open_[1:] != open_[:-1]
    word = np.cumsum(begins) - 1
    words = np.unique(word[open_])
    wanted, order = max(1, round(share * int(open_.sum()))), rng.permutation(words)
    for first in order.tolist():
        size = min(int(rng.geometric(SPAN_END)), LONGEST_SPAN) if spans else 1
        span = open_ & (word >= first) & (word < first + size) & ~chosen
        if not span.any() or (chosen.sum() and chosen.sum() + span.sum() > wanted):
            continue
        chosen |= span
        fate[span] = rng.random()
        if chosen.sum() >= wanted:
            break
    return chosen, fate


class MLM(LanguageObjective):
    """Masked language modelling (Devlin et al. 2018). Other tokens are hidden in every step; where
    nothing is learned, always the same ones."""

    heads: ClassVar[frozenset[str]] = frozenset({"masked", "language"})
    auto: ClassVar[str] = "AutoModelForMaskedLM"

    share: float = Field(
        default=0.15, gt=0, lt=1, description="share of the tokens that are hidden"
    )
    unit: Literal["token", "word", "span"] = Field(
        default="token",
        description="what is hidden together: single tokens, whole words, or spans of words "
        "(SpanBERT)",
    )
    dynamic: bool = Field(
        default=True,
        description="hide other tokens in every pass (RoBERTa); false: the same ones always (BERT)",
    )

    _longest: int = PrivateAttr(default=0)

    def setup(self, session: Setting) -> None:
        """Learn the mask, the special tokens and the size of the vocabulary."""
        super().setup(session)
        if self._words.mask is None:
            raise RecipeError(
                f"objective {self.part_name()} hides tokens behind a mask, and the tokenizer of "
                "the base has none (mask_token); take another base"
            )

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """With some tokens hidden; the targets [1, M] are the tokens behind them."""
        batch = dataset.collate(rows)
        return self.hide(batch, rng)

    def hide(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """A batch of plain rows with some tokens hidden."""
        import torch

        inputs, device = dict(batch.inputs), batch.inputs["ids"].device
        ids, lengths = inputs["ids"].cpu().numpy(), inputs["lengths"].cpu().numpy()
        hidden, chosen = self.masked(ids, lengths, rng, batch.rows)
        targets = torch.from_numpy(ids[chosen][None]).to(device)
        inputs["ids"] = torch.from_numpy(hidden).to(device)
        inputs["chosen"] = torch.from_numpy(chosen).to(device)
        weight = batch.weight.new_tensor(float(targets.numel()))
        return replace(batch, inputs=inputs, targets=targets, weight=weight)

    def masked(
        self, ids: np.ndarray, lengths: np.ndarray, rng: np.random.Generator, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids [B, L] with some hidden, and which they are, bool [B, L]."""
        words: Vocabulary = self._words
        mask = words.mask
        assert mask is not None
        if self.unit == "token" and self.dynamic:
            vocabulary = len(words.begins)
            return mask_tokens(ids, lengths, rng, mask_id=mask, vocabulary=vocabulary,
                               special=words.special.tolist(), share=self.share)  # fmt: skip
        open_ = maskable(ids, lengths, words.special.tolist())
        chosen, fate = np.zeros(ids.shape, bool), np.zeros(ids.shape)
        hidden = ids.copy()
        for row, number in enumerate(rows.tolist()):
            own = rng if self.dynamic else np.random.default_rng([number, STATIC])
            starts = np.ones(ids.shape[1], bool)
            if self.unit != "token":
                starts = words.word_starts(ids[row])
            chosen[row], fate[row] = choose_words(
                starts, open_[row], self.share, own, spans=self.unit == "span"
            )
            if self.unit != "span":
                fate[row] = own.random(len(starts))
            hidden[row] = replaced(ids[row], chosen[row], fate[row], own, mask, words.ordinary)
        return hidden, chosen

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The cross-entropy of the hidden tokens, and how many of them are guessed."""
        predictions = self.predictions(model.forward(batch), batch)
        logits: Tensor = predictions.outputs  # pyright: ignore[reportAssignmentType]
        hits = (logits.detach().argmax(-1) == predictions.targets).sum()
        return Loss(summed_nll(predictions), batch.weight, {"accuracy": hits.float()})
