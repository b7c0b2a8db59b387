"""BERT's second objective beside masked tokens: does this text follow that one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.tokens.batching import pad_rows
from warmstart.models.architectures import positions_of
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.language import Predictions, Vocabulary, by_row
from warmstart.objectives.mlm import MLM

if TYPE_CHECKING:
    from warmstart.models.forward import Batch, Forward, Outputs

PAIRING = 1
"""Tells the random numbers of the pairs from those of the masks."""


def split_place(ends: np.ndarray, latest: int) -> int:
    """Where a text [L] is cut in two: behind the sentence that ends nearest to its middle, but not
    after `latest`, or in the middle; `ends` says which tokens end a sentence."""
    places = np.flatnonzero(ends[:-1]) + 1
    places, middle = places[places <= latest], len(ends) // 2
    return int(places[np.abs(places - middle).argmin()]) if len(places) else min(middle, latest)


def stranger(row: int, owner: np.ndarray, rng: np.random.Generator) -> int:
    """Another row by chance: of another document, where there is one; `owner` [n], in order, says
    of which document each row is."""
    first, end = (
        np.searchsorted(owner, owner[row], "left"),
        np.searchsorted(owner, owner[row], "right"),
    )
    if end - first == len(owner):  # there is one document alone
        first, end = row, row + 1
    if end - first == len(owner):
        return row
    other = int(rng.integers(len(owner) - (end - first)))
    return other if other < first else other + int(end - first)


class NSP(MLM):
    """Next-sentence prediction beside masked tokens (Devlin et al. 2018): in half of the rows the
    second part comes from another document, and the model tells which."""

    heads: ClassVar[frozenset[str]] = frozenset({"language"})
    auto: ClassVar[str] = "AutoModelForPreTraining"
    architectures: ClassVar[frozenset[str]] = frozenset({"bert"})

    pair_weight: float = Field(
        default=1.0, ge=0, description="weight of the loss of the pair beside that of the tokens"
    )

    _hidden_per_row: float = PrivateAttr(default=1.0)
    _room: int = PrivateAttr(default=1 << 30)

    def setup(self, session: Setting) -> None:
        """Learn how many tokens a row hides, so that both losses are means that add up; and how
        many a row may have."""
        super().setup(session)
        self._hidden_per_row = max(1.0, self.share * (session.mean_length - 2))
        self._room = positions_of(session.model.config)

    def pair(
        self, body: np.ndarray, other: np.ndarray, swap: bool, words: Vocabulary
    ) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of a row; `other` is a text of another row, whose second part is taken
        where `swap`: as long as the own one, so that the length tells nothing."""
        at = split_place(words.sentence_ends(body), len(body))
        first, second = body[:at], body[at:]
        if swap:
            latest = max(0, len(other) - len(second))
            begin = split_place(words.sentence_ends(other), latest)
            second = other[begin : begin + len(second)]
        return first, second

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Rows of two parts with some tokens hidden, and whether the parts are what they seem."""
        import torch

        batch, store = dataset.collate(rows), getattr(dataset, "dataset", None)
        owner = getattr(store, "of_row", None)
        owner = np.arange(len(dataset)) if owner is None else owner
        numbers = by_row(rng, rows, PAIRING)
        others = np.array([stranger(row, owner, own) for row, own in
                           zip(rows.tolist(), numbers, strict=True)])  # fmt: skip
        swaps = np.array([own.random() < 0.5 for own in numbers]) & (others != rows)
        words, joined, types = self._words, list[np.ndarray](), list[np.ndarray]()
        apart = self.rows_of(dataset.collate(others))
        for row, other, swap in zip(self.rows_of(batch), apart, swaps, strict=True):
            first, second = self.pair(row[1:-1], other[1:-1], bool(swap), words)
            # the second separator: where there is no room, in the place of the last token
            second = second[: self._room - len(first) - 3]
            joined.append(np.concatenate([row[:1], first, row[-1:], second, row[-1:]]))
            types.append(np.repeat([0, 1], [len(first) + 2, len(second) + 1]))
        ids, mask = pad_rows(joined, words.pad)
        hidden, chosen = self.masked(ids, mask.sum(1), rng, batch.rows)
        arrays = {
            "ids": hidden, "lengths": mask.sum(1), "types": pad_rows(types, 0)[0],
            "chosen": chosen, "pairs": swaps.astype(np.int64), "targets": ids[chosen][None],
        }  # fmt: skip
        device = batch.inputs["ids"].device
        sent = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
        targets, weight = sent.pop("targets"), batch.weight.new_tensor(float(chosen.sum()))
        inputs = {"by": both_outputs, **sent}
        return replace(batch, inputs=inputs, targets=targets, weight=weight)

    def predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the model says of the hidden tokens."""
        assert isinstance(outputs, Mapping)
        return super().predictions(outputs["tokens"], batch)

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The mean loss of the hidden tokens plus that of the pairs."""
        from torch.nn.functional import cross_entropy

        outputs = model.forward(batch)
        assert isinstance(outputs, Mapping)
        tokens = self.nll(self.predictions(outputs, batch))
        logits, truth = outputs["pair"].float(), batch.inputs["pairs"]
        share = self._hidden_per_row
        pairs = cross_entropy(logits, truth, reduction="sum") * share
        right = (logits.detach().argmax(-1) == truth).sum() * share
        metrics = {"mlm_loss": tokens.detach(), "pair_accuracy": right.float()}
        return Loss(tokens + self.pair_weight * pairs, batch.weight, metrics)


def both_outputs(forward: Forward, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Logits of the hidden tokens [1, M, V] and of the pair [B, 2], as `BertForPreTraining` and
    `AlbertForPreTraining` make them."""
    states = forward.token_states(inputs["ids"], inputs["lengths"], inputs["types"])
    model: Any = forward.model
    logits = getattr(model, "cls", model).predictions(states[inputs["chosen"]][None])
    if hasattr(model, "sop_classifier"):
        body = model.albert
        pair = model.sop_classifier(body.pooler_activation(body.pooler(states[:, 0])))
    else:
        pair = model.cls.seq_relationship(model.bert.pooler(states))
    return {"tokens": logits.float(), "pair": pair}
