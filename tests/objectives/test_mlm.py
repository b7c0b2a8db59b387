"""Tokens are hidden as for BERT, and what is lost on them is what transformers says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from learning import CPU, base_of, messages, store_of
from warmstart.models.fast.forward import forward_for
from warmstart.models.forward import Forward
from warmstart.models.loading import load_masked, load_tokenizer
from warmstart.objectives.mlm import MLM, mask_tokens
from warmstart.training.datasets import TokenRows
from warmstart.training.loop import compute_gradients

Folder = Callable[[str], Path]


def hidden(rows: int = 400, length: int = 40) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 1000, (rows, length))
    lengths = rng.integers(3, length + 1, rows)
    ids[:, 0] = 1
    ids[np.arange(rows), lengths - 1] = 2
    found, chosen = mask_tokens(
        ids, lengths, np.random.default_rng(1), mask_id=4, vocabulary=1000, special=(0, 1, 2, 3, 4)
    )
    return ids, lengths, found, chosen


def test_masking_hides_as_bert_does() -> None:
    ids, lengths, found, chosen = hidden()
    assert (chosen.sum(1) == np.maximum(1, np.rint(0.15 * (lengths - 2)))).all()
    fate = found[chosen]
    assert (fate == 4).mean() == pytest.approx(0.8, abs=0.02)
    assert (fate == ids[chosen]).mean() == pytest.approx(0.1, abs=0.02)
    other = (fate != 4) & (fate != ids[chosen])
    assert other.mean() == pytest.approx(0.1, abs=0.02)
    assert (found[~chosen] == ids[~chosen]).all()


def test_masking_leaves_special_tokens_and_padding() -> None:
    ids, lengths, _, chosen = hidden()
    assert not chosen[(ids == 1) | (ids == 2)].any()
    assert not chosen[np.arange(ids.shape[1]) >= lengths[:, None]].any()


def test_masking_another_share_and_a_row_without_words() -> None:
    ids = np.array([[1, 7, 8, 9, 10, 2], [1, 2, 0, 0, 0, 0]])
    kept = {"mask_id": 4, "vocabulary": 20, "special": (0, 1, 2, 3, 4)}
    rng = np.random.default_rng(0)
    _, chosen = mask_tokens(ids, np.array([6, 2]), rng, share=0.5, **kept)
    assert chosen.sum(1).tolist() == [2, 0]


def test_statistics_are_those_of_the_collator_of_transformers(tiny_of: Folder) -> None:
    """The same shares of hidden, other and unchanged tokens, none of them special."""
    from transformers import DataCollatorForLanguageModeling

    tokenizer: Any = load_tokenizer(base_of(tiny_of("bert")))
    rng = np.random.default_rng(3)
    first = len(tokenizer) - 40
    ids = rng.integers(first, len(tokenizer), (600, 42))
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=0)
    made = collate([{"input_ids": row.tolist()} for row in ids])
    theirs, labels = made["input_ids"].numpy(), made["labels"].numpy()
    ours, chosen = mask_tokens(
        ids, np.full(600, 42), rng, mask_id=tokenizer.mask_token_id, vocabulary=len(tokenizer),
        special=tokenizer.all_special_ids,
    )  # fmt: skip

    def shares(hidden: np.ndarray, chosen: np.ndarray) -> list[float]:
        fate, was = hidden[chosen], ids[chosen]
        mask = fate == tokenizer.mask_token_id
        return [chosen[:, 1:-1].mean(), mask.mean(), (fate == was).mean()]

    assert shares(ours, chosen) == pytest.approx(shares(theirs, labels != -100), abs=0.02)
    assert not chosen[:, [0, -1]].any()


class Case:
    """A tiny masked-language model, its rows, and the objective, set up."""

    def __init__(self, folder: Path, share: float = 0.3) -> None:
        self.model: Any = load_masked(base_of(folder), seed=1)
        self.tokenizer: Any = load_tokenizer(base_of(folder))
        store, pad = store_of(folder, messages(9, seed=4)[0])
        self.rows = TokenRows(store, pad, CPU)
        self.forward = Forward(self.model)
        self.objective = MLM(share=share)
        setting: Any = SimpleNamespace(tokenizer=self.tokenizer, model=self.model)
        self.objective.setup(setting)

    def batch(self, rows: np.ndarray, seed: int = 0) -> Any:
        return self.objective.collate(self.rows, rows, np.random.default_rng(seed))


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_the_loss_is_that_of_transformers(family: str, tiny_of: Folder) -> None:
    """`BertForMaskedLM` with labels; the hits are those of its logits."""
    it = Case(tiny_of(family))
    batch = it.batch(np.arange(9))
    with it.forward.evaluating():
        loss = it.objective.loss(it.forward, batch)
    inputs, chosen = batch.inputs, batch.inputs["chosen"]
    labels = torch.full_like(inputs["ids"], -100)
    labels[chosen] = batch.targets[0]
    mask = (torch.arange(labels.shape[1]) < inputs["lengths"][:, None]).long()
    with torch.no_grad():
        theirs = it.model(input_ids=inputs["ids"], attention_mask=mask, labels=labels)
    assert float(loss.weight) == int(chosen.sum()) > 9
    assert float(loss.total / loss.weight) == pytest.approx(float(theirs.loss), rel=1e-5)
    hits = int((theirs.logits.argmax(-1) == labels).sum())
    assert int(loss.metrics["accuracy"]) == hits


def test_accumulation_is_exact(tiny_of: Folder) -> None:
    """Parts with unequally many hidden tokens add up to the whole."""
    it = Case(tiny_of("bert"))
    it.forward.without_dropout()
    batches = [it.batch(rows) for rows in (np.arange(2), np.arange(2, 9))]
    mean, weight, metrics = compute_gradients(it.objective, it.forward, batches)
    losses = [it.objective.loss(it.forward, batch) for batch in batches]
    assert float(weight) == sum(float(loss.weight) for loss in losses)
    total = sum(float(loss.total.detach()) for loss in losses)
    assert float(mean) == pytest.approx(total / float(weight), rel=1e-6)
    hits = sum(int(loss.metrics["accuracy"]) for loss in losses)
    assert float(metrics["accuracy"]) == pytest.approx(hits / float(weight))


def test_a_step_leaves_no_gradient_behind(tiny_of: Folder) -> None:
    """The output matrix is the embedding, so that every row of it has a gradient, of words that are
    in no text too: nothing of it may be left for the next step."""
    base = base_of(tiny_of("bert"))
    tokenizer = load_tokenizer(base)
    model: Any = load_masked(base, 0)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    forward = forward_for(model.requires_grad_(True))
    forward.prepare(torch.float32, CPU, checkpointing=False)
    objective = MLM()
    objective.setup(SimpleNamespace(tokenizer=tokenizer, model=model))  # pyright: ignore[reportArgumentType]
    store, pad = store_of(tiny_of("bert"), *messages(8))
    rows = TokenRows(store, pad, CPU)
    grads: list[torch.Tensor] = []
    for _ in range(2):
        forward.begin_step(0)
        batch = objective.collate(rows, np.arange(8), np.random.default_rng(0))
        compute_gradients(objective, forward, [batch])
        grads.append(model.get_input_embeddings().weight.grad.clone())
        forward.after_step()
    assert (grads[0].abs().sum(1) > 0).all()
    torch.testing.assert_close(*grads, rtol=0, atol=0)
