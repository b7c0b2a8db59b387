"""BART's objective: a damaged text is written whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Setting
from warmstart.objectives.language import LanguageObjective, decoder_start, written

if TYPE_CHECKING:
    from warmstart.models.forward import Batch


def infill(
    ids: np.ndarray, share: float, span: float, mask: int, rng: np.random.Generator
) -> np.ndarray:
    """Spans whose lengths are Poisson distributed, `share` of the tokens in all, each replaced by
    one mask; a span of no tokens puts a mask between two others (Lewis et al. 2020)."""
    left = round(share * len(ids))
    sizes: list[int] = []
    while left > 0:
        size = min(int(rng.poisson(span)), left)
        sizes.append(size)
        left -= max(size, 1)
    gone, before = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    for size in sorted(sizes, reverse=True):
        at = int(rng.integers(0, max(1, len(ids) - max(size, 1) + 1)))
        if size and not gone[at : at + size].any() and not gone[max(0, at - 1) : at].any():
            gone[at : at + size] = True
            before[at] = True
        elif not size and not gone[at]:
            before[at] = True
    pieces = [np.array([mask] if before[i] else [], ids.dtype) if gone[i] else
              np.array([mask, ids[i]] if before[i] else [ids[i]], ids.dtype)
              for i in range(len(ids))]  # fmt: skip
    return np.concatenate([ids[:0], *pieces])


def shuffled(ids: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sentences of a text in another order; `ends` [L] says which tokens end one."""
    cuts = np.flatnonzero(ends[:-1]) + 1
    sentences = np.split(ids, cuts)
    return np.concatenate([sentences[i] for i in rng.permutation(len(sentences))])


class Denoising(LanguageObjective):
    """Denoising (Lewis et al. 2020): spans of a text are each replaced by one mask, its sentences
    are put in another order, and the whole text is written."""

    auto: ClassVar[str] = "AutoModelForSeq2SeqLM"
    kinds: ClassVar[frozenset[str]] = frozenset({"encoder-decoder"})

    share: float = Field(default=0.3, gt=0, lt=1, description="share of the tokens in spans")
    span: float = Field(default=3.0, gt=0, description="mean length of a span in tokens (Poisson)")
    shuffle: bool = Field(default=True, description="put the sentences in another order")

    _start: int = PrivateAttr(default=0)

    def setup(self, session: Setting) -> None:
        """Learn the mask. Raises `RecipeError` where the tokenizer has none."""
        super().setup(session)
        self._start = decoder_start(session.model)
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
        for row in wanted:
            special = np.isin(row, words.special)
            inner = np.flatnonzero(~special)
            begin, end = (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (0, 0)
            text = row[begin:end]
            if self.shuffle and len(text):
                text = shuffled(text, words.ends[text], rng)
            text = infill(text, self.share, self.span, mask, rng)
            read.append(np.concatenate([row[:begin], text, row[end:]]))
        return written(batch, read, wanted, self._start, words.pad)
