"""XLNet's objective: tokens are guessed in any order, each from those before it in that order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.data.tokens.batching import pad_rows
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.objectives.base import Dataset
from warmstart.objectives.language import LanguageObjective, by_row

if TYPE_CHECKING:
    from torch import Tensor

    from warmstart.models.forward import Batch, Forward


def choose_spans(
    open_: np.ndarray, share: float, longest: int, rng: np.random.Generator
) -> np.ndarray:
    """Which tokens of a row [L] are guessed: of each stretch of span / share tokens one span of 1
    to `longest`, as `DataCollatorForPermutationLanguageModeling` of transformers draws them."""
    chosen, at = np.zeros(len(open_), bool), 0
    while at < len(open_):
        span = int(rng.integers(1, longest + 1))
        context = int(span / share)
        start = at + int(rng.integers(0, context - span + 1))
        chosen[start : start + span] = True
        at += context
    return chosen & open_


def order_mask(chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a token may not see, float32 [L, L]: 1 at [i, j] where i may not see j.

    Tokens that are not guessed are seen by all. A guessed one is seen by those that come after it
    in a random order, and never by itself.
    """
    place = rng.permutation(len(chosen))
    place[~chosen] = -1
    hidden = (place[:, None] <= place[None, :]) & chosen[None, :]
    return hidden.astype(np.float32)


class Permutation(LanguageObjective):
    """Permutation language modelling (Yang et al. 2019): some tokens are guessed in a random order,
    each from the rest of the text and from those guessed before it."""

    architectures: ClassVar[frozenset[str]] = frozenset({"xlnet"})

    share: float = Field(
        default=1 / 6, gt=0, lt=1, description="share of the tokens that are guessed"
    )
    longest_span: int = Field(default=5, ge=1, description="the most tokens guessed side by side")

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Ids [B, L], what each token may not see [B, L, L], and where the guesses are [B, K, L];
        the targets [B, K] are the tokens there."""
        import torch

        batch = dataset.collate(rows)
        device, windows = batch.inputs["ids"].device, self.rows_of(batch)
        ids, mask = pad_rows(windows, self._words.pad)
        hidden = np.zeros((*ids.shape, ids.shape[1]), np.float32)
        places: list[np.ndarray] = []
        numbers = by_row(rng, batch.rows)
        for number, (row, own) in enumerate(zip(windows, numbers, strict=True)):
            open_ = self._words.maskable[row]
            chosen = choose_spans(open_, self.share, self.longest_span, own)
            if not chosen.any() and open_.any():
                chosen[own.choice(np.flatnonzero(open_))] = True
            hidden[number, : len(row), : len(row)] = order_mask(chosen, own)
            places.append(np.flatnonzero(chosen))
        targets = pad_rows([row[at] for row, at in zip(windows, places, strict=True)], IGNORE_INDEX)
        mapping = np.zeros((*targets[0].shape, ids.shape[1]), np.float32)
        for number, at in enumerate(places):
            mapping[number, np.arange(len(at)), at] = 1
        named = {"input_ids": ids, "attention_mask": mask, "perm_mask": hidden,
                 "target_mapping": mapping}  # fmt: skip
        tensors = {name: torch.from_numpy(value).to(device) for name, value in named.items()}
        return replace(
            batch, inputs={"by": logits_of, "named": {**tensors, "use_mems": False}},
            targets=torch.from_numpy(targets[0]).to(device),
            weight=batch.weight.new_tensor(float(sum(map(len, places)))),
        )  # fmt: skip


def logits_of(forward: Forward, inputs: Mapping[str, Any]) -> Tensor:
    """Logits [B, K, V] at the places that are guessed."""
    return forward.model(**inputs["named"]).logits
