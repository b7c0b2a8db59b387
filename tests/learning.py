"""What the tests of training share: tiny classifiers, and messages that they can learn."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.models import base as catalog
from warmstart.models import loading as backbone
from warmstart.models.forward import Compute, compute_for
from warmstart.objectives.supervised import Supervised
from warmstart.training.batches import TokenFeed
from warmstart.training.settings import Train
from warmstart.training.trainer import Fit

torch.set_num_threads(1)  # tiny products: two threads that wait for each other take far longer

SRC = Path(__file__).parents[1] / "src"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SRC)}
CPU = torch.device("cpu")
LABELS = ("bad", "good", "plain")
SIGNS = {
    "bad": ("bad", "awful", "poor", "hated"),
    "good": ("good", "great", "nice", "loved"),
    "plain": ("red", "green", "blue", "order"),
}
FILLERS = "the a is was not very it this that again money back late early".split()
FAST = ("bert", "roberta", "electra", "distilbert")
SLOW = ("gpt2", "llama", "xlnet", "modernbert", "t5", "bart")


def messages(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of unequal length whose label can be read off two of their words; labels in turn."""
    rng = random.Random(seed)
    labels = [LABELS[i % len(LABELS)] for i in range(n)]
    texts: list[str] = []
    for label in labels:
        words = [rng.choice(FILLERS) for _ in range(rng.randint(2, 18))]
        words += rng.choices(SIGNS[label], k=2)
        rng.shuffle(words)
        texts.append(" ".join(words))
    return texts, labels


def write_messages(path: Path, n: int, seed: int = 0) -> Path:
    """`messages` as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(*messages(n, seed), strict=True))
    return path


@cache
def base_of(folder: Path) -> catalog.Base:
    return catalog.resolve(str(folder))


def classifier(folder: Path, *, dropout: float | None = 0.0, seed: int = 0) -> Any:
    """A float32 classifier of three labels over the body in `folder`, every weight trained."""
    model = backbone.load_classifier(base_of(folder), LABELS, seed, dropout)
    return model.requires_grad_(True)


def store_of(
    folder: Path, texts: Sequence[str], labels: Sequence[str] | None = None
) -> tuple[TokenizedDataset, int]:
    """The token ids of texts, and the padding token."""
    tokenizer: Any = backbone.load_tokenizer(base_of(folder))
    targets = None if labels is None else np.array([LABELS.index(label) for label in labels])
    return tokenise(texts, tokenizer.backend_tokenizer, 60, None, targets), tokenizer.pad_token_id


def ready(
    model: Any,
    dtype: torch.dtype = torch.float32,
    *,
    fast: bool = True,
    checkpointing: bool = False,
    seed: int = 1,
) -> Any:
    """A compute that stands at the beginning of a step."""
    compute = compute_for(model, fast=fast)
    compute.prepare(dtype, CPU, checkpointing=checkpointing)
    compute.begin_epoch(seed)
    compute.begin_step(seed)
    return compute


def gradients(
    compute: Compute, ids: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean cross-entropy of a training step, and the gradient of every parameter."""
    logits = compute.logits(ids, lengths, training=True)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    compute.collect(accumulate=False)
    return loss.detach(), grads_of(compute.model)


def grads_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def fit(
    folder: Path,
    out: Path,
    *,
    model: Any = None,
    fast: bool = True,
    rows: int = 48,
    precision: torch.dtype = torch.float32,
    score: Callable[[np.ndarray], dict[str, float]] | None = None,
    listeners: Sequence[Any] = (),
    dropout: float | None = 0.0,
    **settings: Any,
) -> Fit:
    """A training run over `messages`, ready to begin; trained on and scored on the same rows."""
    from warmstart.models.architectures import layers_of
    from warmstart.models.head_layers import unwrap
    from warmstart.tasks.classification import class_scores

    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **settings}
    model = classifier(folder, dropout=dropout) if model is None else model
    compute = compute_for(model, fast=fast)
    compute.prepare(precision, CPU, checkpointing=settings.get("gradient_checkpointing", False))
    store, pad = store_of(folder, *messages(rows))
    resolved = Train(**settings)
    feed = TokenFeed(
        store,
        compute,
        pad,
        batch_size=resolved.batch_size or 8,
        micro_batch_tokens=resolved.micro_batch_tokens,
    )
    objective = Supervised()
    out.mkdir(parents=True, exist_ok=True)
    return Fit(
        model=model,
        compute=compute,
        train=feed,
        validation=feed,
        loss=objective.loss,
        weight=objective.weight,
        score=score or (lambda logits: class_scores(logits, store.targets)),
        main="f1_macro",
        settings=resolved,
        seed=3,
        folder=out,
        listeners=[*listeners],
        hidden=[p for block in layers_of(unwrap(model)) for p in block.parameters()],
    )
