"""PEGASUS' objective: the sentences that tell most of a text are left out, and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Setting
from warmstart.objectives.language import WritingObjective, by_row

if TYPE_CHECKING:
    from warmstart.models.forward import Batch


def overlap(sentence: np.ndarray, rest: Sequence[np.ndarray]) -> float:
    """ROUGE-1 F1 of a sentence with the others: the share of tokens that they have in common."""
    own, others = Counter(sentence.tolist()), Counter(np.concatenate(rest).tolist())
    common = sum((own & others).values())
    return 2 * common / max(1, len(sentence) + sum(map(len, rest)))


def principal(sentences: Sequence[np.ndarray], count: int) -> list[int]:
    """The numbers of the sentences that have most in common with the rest, each by itself (Zhang et
    al. 2020, "Ind-Orig"), in the order of the text."""
    scores = [
        overlap(own, [*sentences[:at], *sentences[at + 1 :]]) for at, own in enumerate(sentences)
    ]
    return sorted(np.argsort(-np.array(scores), kind="stable")[:count].tolist())


class GapSentences(WritingObjective):
    """Gap sentences (Zhang et al. 2020): sentences that stand for a text are replaced by a mask and
    written, one after the other."""

    share: float = Field(
        default=0.3, gt=0, lt=1, description="share of the sentences that are left out"
    )
    choose: Literal["principal", "random"] = Field(
        default="principal", description="which: those that tell most of the rest, or any"
    )

    _gap: int = PrivateAttr(default=0)

    def setup(self, session: Setting) -> None:
        """Learn the token that stands for a sentence. Raises `RecipeError` where there is none."""
        super().setup(session)
        named = session.tokenizer.get_vocab().get("<mask_1>")  # of PEGASUS
        gap = next((t for t in (named, self._words.mask, *self._words.sentinels[:1])
                    if t is not None), None)  # fmt: skip
        if gap is None:
            raise RecipeError(
                "objective gap_sentences needs a token that stands for a sentence (<mask_1> or a "
                "mask_token), and the tokenizer of the base has none; take another base"
            )
        self._gap = int(gap)

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The texts without these sentences, and the sentences that are to be written."""
        batch, read, wanted = dataset.collate(rows), list[np.ndarray](), list[np.ndarray]()
        gap = np.array([self._gap])
        for row, own in zip(self.rows_of(batch), by_row(rng, batch.rows), strict=True):
            at = self._words.inner(row)
            body, end = row[at], row[at.stop :]
            ends = np.flatnonzero(self._words.sentence_ends(body)[:-1])
            sentences = np.split(body, ends + 1)
            if len(sentences) < 2:  # of one sentence a half
                sentences = np.array_split(body, 2)
            count = min(max(1, round(self.share * len(sentences))), len(sentences) - 1)
            if self.choose == "principal":
                chosen = principal(sentences, count)
            else:
                chosen = sorted(own.permutation(len(sentences))[:count].tolist())
            parts = [gap if i in chosen else sentence for i, sentence in enumerate(sentences)]
            read.append(np.concatenate([row[: at.start], *parts, end]))
            wanted.append(np.concatenate([*(sentences[i] for i in chosen), end]))
        return self.written(batch, read, wanted)
