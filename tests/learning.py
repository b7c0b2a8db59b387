"""What the tests of training share: tiny classifiers, and messages that they can learn."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset, tokenise
from warmstart.models import base as catalog
from warmstart.models import loading as backbone
from warmstart.models.fast.forward import forward_for
from warmstart.models.forward import Batch, Forward
from warmstart.models.heads import CLASSES, Head
from warmstart.objectives.supervised import Supervised
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import TokenRows
from warmstart.training.settings import Train
from warmstart.training.trainer import Fit

torch.set_num_threads(1)  # tiny products: two threads that wait for each other take far longer

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


def load_classifier(
    base: catalog.Base,
    labels: Sequence[str],
    seed: int,
    dropout: float | None = None,
) -> Any:
    """The base under a single-label classification head."""
    return backbone.load_headed(base, CLASSES, labels, seed, dropout)


def classifier(folder: Path, *, dropout: float | None = 0.0, seed: int = 0) -> Any:
    """A float32 classifier of three labels over the body in `folder`, every weight trained."""
    model = load_classifier(base_of(folder), LABELS, seed, dropout)
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
    """A forward pass that stands at the beginning of a step."""
    forward = forward_for(model, fast=fast)
    forward.prepare(dtype, CPU, checkpointing=checkpointing)
    forward.begin_epoch(seed)
    forward.begin_step(seed)
    return forward


def source_of(
    store: TokenizedDataset, forward: Any, pad: int, objective: Any = None, **how: Any
) -> BatchSource:
    """The batches of a dataset; `how` are settings of `train`, `seed` and `rows`."""
    seed, rows = how.pop("seed", 0), how.pop("rows", None)
    settings = Train(**{"batch_size": 8, "epochs": 2, **how})
    dataset = TokenRows(store, pad, forward.device)
    return BatchSource(dataset, objective or Supervised(), settings, seed, rows=rows)


def loss_of(objective: Any, outputs: Any, targets: torch.Tensor) -> tuple[Any, Any]:
    """The summed loss of a model that gives these outputs, and its weight."""
    rows = np.arange(len(targets))
    inputs = {"lengths": torch.full((len(rows),), outputs.shape[1])} if outputs.ndim > 2 else {}
    batch = Batch(inputs, targets, torch.tensor(float(len(rows))), rows, 0)
    batch = replace(batch, weight=objective.weigh(batch))
    model: Any = SimpleNamespace(forward=lambda _: outputs)
    loss = objective.loss(model, batch)
    return loss.total, loss.weight


def supervised(head: Head = CLASSES, weights: torch.Tensor | None = None, **how: Any) -> Supervised:
    """The objective, set up for a head and with weights of the classes."""
    objective = Supervised(**how)
    objective._head, objective._class_weights = head, weights
    return objective


def predict(store: TokenizedDataset, forward: Any, pad: int) -> np.ndarray:
    """The outputs of all rows."""
    return TokenRows(store, pad, forward.device).predict(forward)


def gradients(
    forward: Forward, ids: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The mean cross-entropy of a training step, and the gradient of every parameter."""
    logits = forward.logits(ids, lengths, training=True)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    forward.collect(accumulate=False)
    return loss.detach(), grads_of(forward.model)


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
    objective: Any = None,
    **settings: Any,
) -> Fit:
    """A training run over `messages`, ready to begin; trained on and scored on the same rows."""
    from warmstart.models.architectures import layers_of
    from warmstart.models.head_layers import unwrap
    from warmstart.tasks.classification import class_scores

    length = {} if settings.keys() & {"max_steps", "tokens"} else {"epochs": 2}
    settings = {**length, "batch_size": 8, "learning_rate": 1e-3, **settings}
    model = classifier(folder, dropout=dropout) if model is None else model
    forward = forward_for(model, fast=fast)
    forward.prepare(precision, CPU, checkpointing=settings.get("gradient_checkpointing", False))
    store, pad = store_of(folder, *messages(rows))
    resolved, objective = Train(**settings), objective or Supervised()
    dataset = TokenRows(store, pad, CPU)
    out.mkdir(parents=True, exist_ok=True)
    return Fit(
        model=model,
        forward=forward,
        train=BatchSource(dataset, objective, resolved, 3),
        validation=BatchSource(dataset, objective, resolved, 3),
        objective=objective,
        score=score or (lambda logits: class_scores(logits, store.targets)),
        main="f1_macro",
        settings=resolved,
        seed=3,
        folder=out,
        listeners=[*listeners],
        hidden=[p for block in layers_of(unwrap(model)) for p in block.parameters()],
    )


def prove(folder: Path, texts: Sequence[str], probabilities: np.ndarray, length: int) -> Any:
    """The proof that a saved classifier answers texts with these probabilities."""
    import pyarrow as pa

    from warmstart.pipelines.verify import prove_task
    from warmstart.tasks.base import Examples
    from warmstart.tasks.classification import Classification

    ids = np.zeros(len(texts), np.uint16), np.arange(len(texts) + 1)
    examples = Examples(
        pa.table({"text": list(texts)}), TokenizedDataset(*ids, np.zeros(len(texts))), LABELS, None
    )
    task = Classification(max_length=length)
    return prove_task(folder, task, examples, np.log(probabilities), 0)
