"""BERT's second objective beside masked tokens: does this text follow that one?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

from warmstart.data.tokens.batching import pad_rows
from warmstart.objectives.base import Dataset, Loss, Setting
from warmstart.objectives.language import Predictions, Vocabulary, summed_nll
from warmstart.objectives.mlm import MLM

if TYPE_CHECKING:
    from warmstart.models.forward import Batch, Forward, Outputs

TOKENS, PAIR = ("prediction_logits",), ("seq_relationship_logits", "sop_logits")
"""What transformers calls the two outputs."""


def split_place(ends: np.ndarray) -> int:
    """Where a text [L] is cut in two: behind the sentence that ends nearest to its middle, or in
    the middle."""
    places = np.flatnonzero(ends[:-1]) + 1
    middle = len(ends) // 2
    return int(places[np.abs(places - middle).argmin()]) if len(places) else middle


def strangers(
    rows: np.ndarray, store: Any, count: int, rng: np.random.Generator, tries: int = 8
) -> np.ndarray:
    """For each row another one by chance, of another document where there are several."""
    others = rng.integers(0, count, len(rows))
    owner: Any = getattr(store, "of_row", None)
    if owner is None:
        return others
    for _ in range(tries):
        same = owner[others] == owner[rows]
        others[same] = rng.integers(0, count, int(same.sum()))
    return others


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

    def setup(self, session: Setting) -> None:
        """Learn how many tokens a row hides, so that both losses are means that add up."""
        super().setup(session)
        self._hidden_per_row = max(1.0, self.share * session.mean_length)

    def pair(
        self, body: np.ndarray, other: np.ndarray, swap: bool, words: Vocabulary
    ) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of a row; `other` is a text of another row, taken where `swap`."""
        at = split_place(words.ends[body])
        first, second = body[:at], body[at:]
        if swap:
            begin = split_place(words.ends[other])
            second = other[begin : begin + max(1, len(second))]
        return first, second

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Rows of two parts with some tokens hidden, and whether the parts are what they seem."""
        import torch

        batch = dataset.collate(rows)
        others = strangers(rows, getattr(dataset, "dataset", None), len(dataset), rng)
        apart = self.rows_of(dataset.collate(others))
        swaps, device, words = rng.random(len(rows)) < 0.5, batch.inputs["ids"].device, self._words
        joined, types = list[np.ndarray](), list[np.ndarray]()
        for row, other, swap in zip(self.rows_of(batch), apart, swaps, strict=True):
            first, second = self.pair(row[1:-1], other[1:-1], bool(swap), words)
            # the second separator takes the place of the text's last token
            joined.append(np.concatenate([row[:1], first, row[-1:], second[:-1], row[-1:]]))
            types.append(np.repeat([0, 1], [len(first) + 2, len(second[:-1]) + 1]))
        ids, mask = pad_rows(joined, words.pad)
        hidden, chosen = self.masked(ids, mask.sum(1), rng, batch.rows)
        named = {"input_ids": hidden, "attention_mask": mask,
                 "token_type_ids": pad_rows(types, 0)[0]}  # fmt: skip
        sent = {name: torch.from_numpy(value).to(device) for name, value in named.items()}
        places, pairs = torch.from_numpy(chosen), torch.from_numpy(swaps.astype(np.int64))
        inputs = {"by": both_outputs, "named": sent, "hidden_at": places.to(device),
                  "pairs": pairs.to(device)}  # fmt: skip
        targets = torch.from_numpy(ids[chosen][None]).to(device)
        weight = batch.weight.new_tensor(float(chosen.sum()))
        return replace(batch, inputs=inputs, targets=targets, weight=weight)

    def predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the model says of the hidden tokens."""
        chosen = batch.inputs["hidden_at"]
        logits = _output(outputs, TOKENS)[chosen]
        return Predictions(logits, batch.targets[0], chosen.nonzero()[:, 0])

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The mean loss of the hidden tokens plus that of the pairs."""
        from torch.nn.functional import cross_entropy

        outputs = model.forward(batch)
        tokens = summed_nll(self.predictions(outputs, batch))
        logits, truth = _output(outputs, PAIR).float(), batch.inputs["pairs"]
        share = self._hidden_per_row
        pairs = cross_entropy(logits, truth, reduction="sum") * share
        right = (logits.detach().argmax(-1) == truth).sum() * share
        metrics = {"mlm_loss": tokens.detach(), "pair_accuracy": right.float()}
        return Loss(tokens + self.pair_weight * pairs, batch.weight, metrics)


def both_outputs(model: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Logits of the tokens and of the pair, by the names that transformers has for them."""
    return model(**inputs["named"])


def _output(outputs: Any, names: tuple[str, ...]) -> Any:
    assert isinstance(outputs, Mapping)
    return next(outputs[name] for name in names if name in outputs)
