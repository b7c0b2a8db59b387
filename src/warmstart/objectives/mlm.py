"""Masked language modelling: tokens are hidden, and guessed from their neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.language import LanguageObjective, by_row

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


def choose_tokens(open_: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which tokens of one row [L] are hidden: `share` of those that may be, rounded, and at least
    one (Devlin et al. 2018, A.1, but for the number, which is a chance there)."""
    chosen = np.zeros(len(open_), bool)
    places = rng.permutation(np.flatnonzero(open_))
    chosen[places[: max(1, round(share * len(places)))]] = True
    return chosen


def choose_words(
    starts: np.ndarray, open_: np.ndarray, share: float, rng: np.random.Generator, *, spans: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens of one row [L] are hidden, in whole words, until `share` of those that may be
    are; and one random number [L] for all tokens of a span.

    `starts` says where words begin. A span is one word, or, as in SpanBERT (Joshi et al. 2020),
    several neighbours: their number is geometric with 0.2, at most 10. A word that is longer than
    what is left to hide stays, and ends a span.
    """
    chosen, fate = np.zeros(len(starts), bool), np.zeros(len(starts))
    begins = starts.copy()
    begins[1:] |= open_[1:] != open_[:-1]
    bounds = np.append(np.flatnonzero(begins), len(starts))
    sizes, words = np.diff(bounds), np.flatnonzero(open_[bounds[:-1]])
    wanted = max(1, round(share * int(open_.sum())))
    left = max(wanted, int(sizes[words].min(initial=len(starts))))  # at least one word
    for first in rng.permutation(words).tolist():
        count = min(int(rng.geometric(SPAN_END)), LONGEST_SPAN) if spans else 1
        own = rng.random()
        for word in range(first, min(first + count, len(sizes))):
            at, end = bounds[word : word + 2]
            if not open_[at] or (end - at > left and not chosen[at]):
                break
            if not chosen[at]:
                chosen[at:end], fate[at:end], left = True, own, left - (end - at)
        if left == 0:
            break
    return chosen, fate


def replaced(
    ids: np.ndarray, chosen: np.ndarray, fate: np.ndarray, rng: np.random.Generator,
    mask_id: int, ordinary: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """The ids of one row [L] with the chosen ones hidden, each by its fate in [0, 1): 80 % become
    the mask, 10 % any token that is not special, and 10 % stay."""
    words = ordinary[rng.integers(0, len(ordinary), len(ids))].astype(ids.dtype)
    hidden = np.where(chosen & (fate < REPLACED), mask_id, ids)
    return np.where(chosen & (fate >= REPLACED + AS_IT_IS), words, hidden)


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
        """The ids [B, L] with some hidden, and which they are, bool [B, L]; the same of a row
        whatever rows stand beside it."""
        words: Vocabulary = self._words
        mask = words.mask
        assert mask is not None
        hidden, chosen = ids.copy(), np.zeros(ids.shape, bool)
        numbers = by_row(rng if self.dynamic else np.random.default_rng(STATIC), rows)
        for number, own in enumerate(numbers):
            row = ids[number, : lengths[number]]
            place = number, slice(len(row))
            open_ = words.maskable[row]
            if self.unit == "token":
                chosen[place], fate = choose_tokens(open_, self.share, own), own.random(len(row))
            else:
                spans = self.unit == "span"
                starts = words.word_starts(row)
                chosen[place], fate = choose_words(starts, open_, self.share, own, spans=spans)
                fate = fate if spans else own.random(len(row))
            hidden[place] = replaced(row, chosen[place], fate, own, mask, words.ordinary)
        return hidden, chosen

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The cross-entropy of the hidden tokens, and how many of them are guessed."""
        predictions = self.predictions(model.forward(batch), batch)
        logits: Tensor = predictions.outputs  # pyright: ignore[reportAssignmentType]
        hits = (logits.detach().argmax(-1) == predictions.targets).sum()
        return Loss(self.nll(predictions), batch.weight, {"accuracy": hits.float()})
