"""What the tests of pretraining share: documents, real tokenizers, tiny models under an objective.

it = Tiny("bert", folder, "mlm", share=0.3)
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from learning import CPU, base_of
from warmstart import part as parts
from warmstart.data.tokens.windows import document_windows
from warmstart.models.architectures import family_of
from warmstart.models.fast.forward import forward_for
from warmstart.models.from_config import new_base
from warmstart.models.loading import load_tokenizer
from warmstart.objectives.base import Loss
from warmstart.pipelines.pretrain.request import OBJECTIVES
from warmstart.pipelines.pretrain.scratch import TOKENIZERS
from warmstart.tokenization import training
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import Training
from warmstart.training.datasets import LanguageRows

ARCHITECTURES = tuple(sorted(TOKENIZERS))
NOUNS = "film book café song river mountain winter morning letter neighbour garden naïveté".split()
VERBS = "liked remembered painted described forgot translated understood rebuilt".split()
OTHERS = "slowly, again - and (perhaps) in 1990 or 3.14 times; isn't it? never-ending".split()


def documents(count: int = 40, seed: int = 0) -> list[str]:
    """Texts of one to nine sentences, with accents, numbers, hyphens and brackets."""
    rng = random.Random(seed)

    def sentence() -> str:
        words = ["the", rng.choice(NOUNS), rng.choice(VERBS), "every", rng.choice(NOUNS)]
        words += rng.sample(OTHERS, rng.randint(0, 5))
        return " ".join(words).capitalize() + rng.choice(".!?")

    return [" ".join(sentence() for _ in range(rng.randint(1, 9))) for _ in range(count)]


def tokenizer_folder(architecture: str, folder: Path, size: int = 320) -> Path:
    """A tokenizer as `pretrain` trains it for an architecture."""
    if not folder.exists():
        how = Training(**{**TOKENIZERS[architecture], "vocab_size": size, "max_length": 64})
        backend, specials, _ = training.train(how, Corpus([documents(200)], how))
        training.save(training.as_transformers(backend, specials, how), {}, folder)
    return folder


@cache
def tiny_base(architecture: str, folder: Path) -> Path:
    """The folder of a tiny model with random weights and such a tokenizer."""
    words = tokenizer_folder(architecture, folder / f"{architecture}-words")
    return new_base(
        architecture, words, folder / architecture, hidden_size=32, layers=2, heads=2,
        positions=65, dropout=0.0, **({"embedding_size": 16} if architecture == "electra" else {}),
    )  # fmt: skip


class Tiny:
    """A tiny model under the head that an objective trains, its windows, and the objective."""

    def __init__(
        self, architecture: str, folder: Path, objective: str | None = None, *,
        texts: list[str] | None = None, longest: int = 32, **settings: Any,
    ) -> None:  # fmt: skip
        base = base_of(tiny_base(architecture, folder))
        name = objective or OBJECTIVES.get(architecture, "mlm")
        self.objective: Any = parts.make("objective", name, settings).model_copy()
        self.model: Any = self.objective.build_model(None, base, [], 1).requires_grad_(True)
        self.tokenizer: Any = load_tokenizer(base)
        self.kind = family_of(self.model.config).kind
        self.forward: Any = forward_for(self.model)
        self.forward.prepare(torch.float32, CPU, checkpointing=False)
        texts = documents() if texts is None else texts
        self.store = document_windows(pa.chunked_array([texts]), self.tokenizer, longest)
        setting: Any = SimpleNamespace(
            tokenizer=self.tokenizer, model=self.model, forward=self.forward, device=CPU,
            mean_length=float(self.store.lengths.mean()),
        )  # fmt: skip
        self.objective.setup(setting)
        pad = int(self.tokenizer.pad_token_id)
        self.rows = LanguageRows(self.store, pad, CPU, self.objective)

    def batch(self, rows: Any, seed: int = 0) -> Any:
        """The batch of some rows."""
        return self.objective.collate(self.rows, np.asarray(rows), np.random.default_rng(seed))

    def loss(self, batch: Any) -> Loss:
        """The loss of a batch in evaluation."""
        with self.forward.evaluating():
            return self.objective.loss(self.forward, batch)

    def loss_of_transformers(self, batch: Any) -> float:
        """Of an encoder-decoder, which makes its decoder's inputs itself."""
        ids, mask = batch.inputs["ids"], batch.inputs["mask"]
        with torch.no_grad():
            answer = self.model(input_ids=ids, attention_mask=mask, labels=batch.targets)
        return float(answer.loss)

    def mean(self, batch: Any) -> float:
        """The mean loss of a batch in evaluation."""
        loss = self.loss(batch)
        return float(loss.total / loss.weight)
