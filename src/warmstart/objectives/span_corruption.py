"""T5's objective: spans are cut out of a text, and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.objectives.base import Dataset, Setting
from warmstart.objectives.language import WritingObjective, by_row

if TYPE_CHECKING:
    from warmstart.models.forward import Batch


def noise_mask(
    length: int, share: float, span: float, rng: np.random.Generator, most: int = 1 << 30
) -> np.ndarray:
    """Which of so many tokens are cut out, bool [length]: `share` of them, in spans of mean length
    `span`, of which there are at most `most`; the first token stays.

    As `random_spans_noise_mask` of Raffel et al. 2020: all ways to part the two kinds of tokens
    into so many spans are equally likely.
    """
    if length < 2:
        return np.zeros(length, bool)
    noise = min(max(round(length * share), 1), length - 1)
    spans = min(max(round(noise / span), 1), length - noise, most)
    sizes = [_parted(length - noise, spans, rng), _parted(noise, spans, rng)]
    both = np.stack(sizes, 1).reshape(-1)
    return np.repeat(np.arange(2 * spans) % 2 == 1, both)


def _parted(count: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`count` things in so many parts of at least one each."""
    cuts = np.sort(rng.permutation(count - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], cuts, [count]]))


def cut_spans(
    ids: np.ndarray, noise: np.ndarray, sentinels: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """A text whose spans are replaced by sentinels, and the spans, each behind its sentinel, with
    one more sentinel at the end."""
    starts = np.flatnonzero(noise & ~np.concatenate([[False], noise[:-1]]))
    read, wanted = ids.copy(), list[np.ndarray]()
    kept = ~noise
    for number, at in enumerate(starts.tolist()):
        after = np.flatnonzero(~noise[at:])
        end = at + int(after[0]) if len(after) else len(ids)
        read[at], kept[at] = sentinels[number], True
        wanted += [np.array([sentinels[number]]), ids[at:end]]
    wanted.append(np.array([sentinels[len(starts)]]))
    return read[kept], np.concatenate(wanted)


class SpanCorruption(WritingObjective):
    """Span corruption (Raffel et al. 2020): 15 % of the tokens in spans of three are cut out, each
    span leaves a sentinel, and the spans are written, each behind its sentinel."""

    share: float = Field(
        default=0.15, gt=0, lt=1, description="share of the tokens that are cut out"
    )
    span: float = Field(default=3.0, ge=1, description="mean length of a span in tokens")

    def setup(self, session: Setting) -> None:
        """Learn the sentinels. Raises `RecipeError` where the tokenizer has none."""
        super().setup(session)
        if len(self._words.sentinels) < 2:
            raise RecipeError(
                "objective span_corruption needs the tokens <extra_id_0>, <extra_id_1> …, which "
                "T5's tokenizers have and that of this base has not; take objective denoising"
            )

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The texts without their spans, and the spans that are to be written."""
        batch = dataset.collate(rows)
        read, wanted = list[np.ndarray](), list[np.ndarray]()
        sentinels = self._words.sentinels
        for row, own in zip(self.rows_of(batch), by_row(rng, batch.rows), strict=True):
            at = self._words.inner(row)
            body, end = row[at], row[at.stop :]
            noise = noise_mask(len(body), self.share, self.span, own, len(sentinels) - 1)
            text, spans = cut_spans(body, noise, sentinels)
            read.append(np.concatenate([row[: at.start], text, end]))
            wanted.append(np.concatenate([spans, end]))
        return self.written(batch, read, wanted)
