"""Causal language modelling: each token is guessed from those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from warmstart.data.tokens.batching import pad_rows
from warmstart.data.tokens.dataset import IGNORE_INDEX
from warmstart.objectives.base import Dataset
from warmstart.objectives.language import LanguageObjective, sent

if TYPE_CHECKING:
    from warmstart.models.forward import Batch


class CLM(LanguageObjective):
    """Causal language modelling (Bengio et al. 2003; Radford et al. 2018): the next token of a
    text. Logits over the vocabulary are made in chunks."""

    auto: ClassVar[str] = "AutoModelForCausalLM"
    kinds: ClassVar[frozenset[str]] = frozenset({"decoder"})
    covers_text: ClassVar[bool] = True

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Each window but for its last token [B, L]; the targets are the tokens that follow."""
        batch = dataset.collate(rows)
        windows = self.rows_of(batch)
        ids, mask = pad_rows([row[:-1] for row in windows], self._words.pad)
        targets = pad_rows([row[1:] for row in windows], IGNORE_INDEX)[0]
        return sent(batch, {"ids": ids, "mask": mask}, targets)
