"""What an engine is: it opens a saved model and computes token arrays.

It knows nothing of tasks, texts or labels (`inference.predictor` does), so that a new engine is one
file in this folder, or a class of the user's own that is named by its path.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from warmstart.part import Part

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.inference.batching import Batcher
    from warmstart.models.generation import TokenScores
    from warmstart.models.sampling import Completion, Sampling
    from warmstart.tasks.base import Task


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """What an engine reads: ids [B, L] padded on the right, the tokens in each row [B], and the
    token types [B, L] where a row may have two texts; all int64."""

    ids: np.ndarray
    lengths: np.ndarray
    types: np.ndarray | None = None

    @property
    def mask(self) -> np.ndarray:
        """[B, L] 1 where there is a token, as int64."""
        return (np.arange(self.ids.shape[1]) < self.lengths[:, None]).astype(np.int64)


class Runner:
    """A model that an engine has opened. What its head does not need may be left out."""

    batch_tokens = 4096
    """The most tokens of a batch, padding counted; one longer row is a batch of its own."""

    def run(self, batch: TokenBatch) -> np.ndarray:
        """Float32 outputs of the head: [B, K], or [B, L, K] where it reads every token; of a model
        that gives vectors [B, H], pooled as its folder says and not normalised unless it says so.
        """
        raise NotImplementedError

    def generate(self, prompts: TokenizedDataset) -> tuple[list[list[int]], np.ndarray]:
        """The ids that are written after each prompt, by the folder's `generation_config.json`,
        and the mean probability of each text's tokens [n]."""
        raise NotImplementedError

    def write(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, **how: Any
    ) -> list[Completion]:
        """The texts that are written behind prompts by settings of their own; `how` and what is
        raised: see `models.sampling.generate`."""
        raise NotImplementedError

    def batcher(self, tokenizer: Any, ends: Collection[int] = ()) -> Batcher | None:
        """Texts written side by side that may join and leave at every step (continuous batching);
        None where the engine writes in groups alone, by `write`. `ends` as in `write`."""
        return None

    def log_probs(self, dataset: TokenizedDataset) -> TokenScores:
        """What the model says of the tokens of `dataset.answers` after those of `dataset`; where
        targets are `by_token`, of these in their places; else, of a language model, of the windows
        themselves, as its objective asks for them."""
        raise NotImplementedError


class Engine(Part):
    """A way to compute answers from a saved model. Its fields are the settings
    `--engine.NAME VALUE`."""

    kind: ClassVar[str] = "engine"

    @property
    def batch_tolerance(self) -> float | None:
        """How far a row's probabilities may move with the rows beside it; None: nobody knows."""
        return None

    def build(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None = None
    ) -> Path:
        """Make the engine's own form of a model folder in the folder `out`, unless it is there and
        still fits; returns where it stands. Unless overridden the model folder itself is opened.
        `rows` are rows of the data, where the form is made by them."""
        return folder

    def open(self, folder: Path, task: Task, pad_id: int) -> Runner:
        """The model in what `build` returned. Raises `BaseModelError`, and `RecipeError` where the
        engine cannot compute what the head of `task` needs."""
        raise NotImplementedError
