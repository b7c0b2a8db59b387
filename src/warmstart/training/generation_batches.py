"""Batches of a text and the text to be written after it, for encoder-decoders and decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import micro, ordered, plan
from warmstart.data.tokens.dataset import IGNORE_INDEX, TokenizedDataset
from warmstart.models.fast.loss import Unprojected, score_targets
from warmstart.models.generation import GenerationOutput, Language, TokenScores
from warmstart.training.batches import INFERENCE_TOKENS, Batch

WRITE_TOKENS = 16384
"""Tokens of texts and answers, beams not counted, that are generated at once."""


@dataclass(frozen=True, slots=True)
class TextBatch(Batch):
    """As `Batch`; `written` [B, T] is what the decoder of an encoder-decoder reads."""

    mask: Tensor | None = None
    written: Tensor | None = None


class TextFeed:
    """Texts with their answers, in length-sorted batches.

    An encoder-decoder reads the text and, shifted by one, the answer; a decoder reads both in one
    row, and what it says of the text counts nothing. Targets [B, T] are -100 where nothing counts.

    Args:
        rows: the rows of the store to train on.
        writes: how many rows `predict` generates answers for, from the first; None: all.
    """

    def __init__(
        self,
        store: TokenizedDataset,
        language: Language,
        pad_id: int,
        *,
        batch_size: int = 1,
        batch_tokens: int | None = None,
        micro_batch_tokens: int = INFERENCE_TOKENS,
        rows: np.ndarray | None = None,
        writes: int | None = None,
    ) -> None:
        self.store, self.language, self.pad_id = store, language, pad_id
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.rows = np.arange(len(store)) if rows is None else rows
        self.writes = len(store) if writes is None else min(writes, len(store))

    def __len__(self) -> int:
        return len(self.store)

    @property
    def judged(self) -> int:
        """What a score of one pass is the mean of: target tokens."""
        answers = self.store.answers
        return len(self) if answers is None else len(answers.ids)

    def epoch(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch."""
        sizes = self.store.sizes[self.rows]
        order = plan(sizes, self.batch_size, seed, epoch, batch_tokens=self.batch_tokens)
        return [self.rows[batch] for batch in order]

    def batches(self, rows: np.ndarray) -> list[TextBatch]:
        """The micro-batches of one step."""
        return [
            self._batch(part) for part in micro(rows, self.store.sizes, self.micro_batch_tokens)
        ]

    def logits(self, batch: TextBatch, *, training: bool) -> Unprojected | Tensor:
        """What stands before the logits of the vocabulary [B, T, H], or those [B, T, V]."""
        assert batch.ids is not None and batch.mask is not None
        return self.language.forward(batch.ids, batch.mask, batch.written, training=training)

    @torch.no_grad()
    def predict(self) -> GenerationOutput:
        """What the model says of the targets, where there are some, and what it writes itself."""
        found = GenerationOutput.nothing(len(self))
        if self.store.answers is not None:
            for rows in ordered(self.store.sizes, INFERENCE_TOKENS):
                said = self._told(self._batch(rows))
                found.nll[rows], found.sure[rows] = said.nll, said.sure
                found.hits[rows], found.tokens[rows] = said.hits, said.tokens
        self._write(found)
        return found

    def _write(self, found: GenerationOutput) -> None:
        """Answers for the first rows, with the confidence in each."""
        new = int(self.language.generation.max_new_tokens or 0)
        lengths = self.store.lengths[: self.writes]
        for rows in self._together(ordered(lengths + new, WRITE_TOKENS)):
            ids, mask = self._prompts(rows)
            written = self.language.write(ids, mask)
            batch = self._batch(rows, [np.asarray(row, np.int64) for row in written])
            said = self._told(batch)
            found.confidence[rows] = said.sure / np.maximum(said.tokens, 1)
            for row, text in zip(rows.tolist(), written, strict=True):
                found.ids[row] = text

    def _together(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        """Behind virtual tokens the padding of a prompt would be read: equal lengths only."""
        if not self.language.pads_badly:
            return batches
        parts: list[np.ndarray] = []
        for rows in batches:
            lengths = self.store.lengths[rows]
            parts += [rows[lengths == length] for length in np.unique(lengths)]
        return parts

    def _told(self, batch: TextBatch) -> TokenScores:
        """What the model says of each row's target."""
        outputs: Any = self.logits(batch, training=False)
        real = batch.targets != IGNORE_INDEX
        whole = isinstance(outputs, Tensor)
        said = score_targets(outputs[real] if whole else outputs.at(real), batch.targets[real])
        owner, nll = real.nonzero()[:, 0].cpu().numpy(), said.nll.double().numpy()

        def summed(values: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(owner, values, minlength=len(real))

        return TokenScores(summed(nll), summed(np.exp(-nll)), summed(said.is_top.numpy()), summed())

    def _prompts(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Ids and mask [B, L] of the texts, padded on the left for a decoder."""
        texts = [self.store.row(int(row)) for row in rows]
        ids, mask = _padded(texts, self.pad_id, left=self.language.decodes)
        return self._sent(ids), self._sent(mask)

    def _batch(self, rows: np.ndarray, answers: list[np.ndarray] | None = None) -> TextBatch:
        """The rows beside their own answers, or others."""
        texts = [self.store.row(int(row)).astype(np.int64) for row in rows]
        if answers is None:
            own = self.store.answers
            assert own is not None
            answers = [own.row(int(row)).astype(np.int64) for row in rows]
        tokens = sum(map(len, texts)) + sum(map(len, answers))
        if self.language.decodes:
            read = [np.concatenate([t, a[:-1]]) for t, a in zip(texts, answers, strict=True)]
            before = [np.full(len(text) - 1, IGNORE_INDEX) for text in texts]
            wanted = [np.concatenate([b, a]) for b, a in zip(before, answers, strict=True)]
            written = None
        else:
            read, wanted = texts, answers
            start = np.array([self.language.start])
            shifted = [np.concatenate([start, answer])[:-1] for answer in answers]
            written = self._sent(_padded(shifted, self.pad_id)[0])
        ids, mask = _padded(read, self.pad_id)
        targets, _ = _padded(wanted, IGNORE_INDEX)
        return TextBatch(
            targets=self._sent(targets),
            tokens=tokens,
            ids=self._sent(ids),
            mask=self._sent(mask),
            written=written,
        )

    def _sent(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.language.compute.device, non_blocking=True)


def _padded(
    rows: list[np.ndarray], fill: int, *, left: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int64 [n, longest], filled up with `fill`, and a mask of what is real."""
    longest = max(1, *(len(row) for row in rows))
    ids = np.full((len(rows), longest), fill, np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    return ids, mask
