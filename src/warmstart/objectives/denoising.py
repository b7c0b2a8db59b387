"""BART's objective: a damaged text is written whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Setting
from warmstart.objectives.language import WritingObjective, by_row

if TYPE_CHECKING:
    from warmstart.models.forward import Batch


def infill(
    ids: np.ndarray, share: float, span: float, mask: int, rng: np.random.Generator
) -> np.ndarray:
    """A text [L] with `share` of its tokens, rounded, in spans that are each replaced by one mask.

    The lengths of the spans are Poisson distributed, the last one cut to what is left to hide; a
    span of no tokens puts a mask between two others (Lewis et al. 2020). Spans do not touch, where
    the tokens that stay are enough to part them; all ways to place them are equally likely.
    """
    left, sizes = round(share * len(ids)), list[int]()
    while left > 0:
        sizes.append(min(int(rng.poisson(span)), left))
        left -= sizes[-1]
    stay = len(ids) - sum(sizes)
    if len(sizes) > stay + 1:  # more masks than places between tokens that stay
        sizes = sorted(sizes, reverse=True)[: stay + 1]
        sizes[-1] += len(ids) - stay - sum(sizes)
    # which of the places before, between and behind the tokens that stay have a span
    before = np.zeros(stay + 1, np.int64)
    before[rng.permutation(stay + 1)[: len(sizes)]] = np.array(sizes, np.int64) + 1
    pieces, at = list[np.ndarray](), 0
    for place, size in enumerate(before.tolist()):
        if size:
            pieces.append(np.array([mask], ids.dtype))
            at += size - 1
        pieces.append(ids[at : at + (place < stay)])
        at += 1
    return np.concatenate([ids[:0], *pieces])


def shuffled(ids: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sentences of a text in another order; `ends` [L] says which tokens end one."""
    cuts = np.flatnonzero(ends[:-1]) + 1
    sentences = np.split(ids, cuts)
    return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


class Denoising(WritingObjective):
    """Denoising (Lewis et al. 2020): spans of a text are each replaced by one mask, its sentences
    are put in another order, and the whole text is written."""

    share: float = Field(default=0.3, gt=0, lt=1, description="share of the tokens in spans")
    span: float = Field(default=3.0, gt=0, description="mean length of a span in tokens (Poisson)")
    shuffle: bool = Field(default=True, description="put the sentences in another order")

    def setup(self, session: Setting) -> None:
        """Learn the mask. Raises `RecipeError` where the tokenizer has none."""
        super().setup(session)
        if self._words.mask is None and not self._words.sentinels:
            raise RecipeError(
                "objective denoising hides spans behind a mask, and the tokenizer of the base has "
                "none (mask_token); take objective span_corruption, or another base"
            )

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The damaged texts, and the whole ones that are to be written."""
        batch, words = dataset.collate(rows), self._words
        mask = words.sentinels[0] if words.mask is None else words.mask
        read, wanted = list[np.ndarray](), self.rows_of(batch)
        for row, own in zip(wanted, by_row(rng, batch.rows), strict=True):
            at = words.inner(row)
            text = row[at]
            if self.shuffle and len(text):
                text = shuffled(text, words.sentence_ends(text), own)
            text = infill(text, self.share, self.span, mask, own)
            read.append(np.concatenate([row[: at.start], text, row[at.stop :]]))
        return self.written(batch, read, wanted)
