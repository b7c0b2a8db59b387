"""Vectors are the pooled hidden states of transformers; one loss over many parts is exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from learning import CPU, base_of, grads_of, messages, predict
from warmstart.models.fast.forward import FastForward, forward_for
from warmstart.models.forward import Forward
from warmstart.models.head_layers import Readout
from warmstart.models.heads import VECTOR
from warmstart.models.loading import load_headed, load_tokenizer
from warmstart.tasks.embedding.task import Embedding
from warmstart.training.datasets import GroupRows

Folder = Callable[[str], Path]
FAMILIES = ("bert", "roberta", "electra", "distilbert", "modernbert", "xlnet", "gpt2", "llama")
TEXTS = messages(9, seed=3)[0]


def body(folder: Path) -> Any:
    return load_headed(base_of(folder), VECTOR, [], 0, 0.0).requires_grad_(True)


def made(compute: Any, dtype: torch.dtype = torch.float32) -> Any:
    compute.prepare(dtype, CPU, checkpointing=False)
    compute.begin_epoch(0)
    compute.begin_step(0)
    return compute


def alone(model: Any, tokenizer: Any, text: str, pooling: str) -> torch.Tensor:
    """By transformers, without padding."""
    ids = torch.tensor([tokenizer.backend_tokenizer.encode(text).ids])
    hidden = model(input_ids=ids).last_hidden_state[0]
    return {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_transformers(family: str, pooling: Any, tiny_of: Folder) -> None:
    model, tokenizer = body(tiny_of(family)), load_tokenizer(base_of(tiny_of(family)))
    compute = made(forward_for(model, Readout("body", pooling)))
    store = Embedding().encode(pa.table({"text": TEXTS}), [], tokenizer, 60)
    pad: Any = tokenizer.pad_token_id
    found = predict(store, compute, pad)
    with torch.no_grad():
        wanted = torch.stack([alone(model, tokenizer, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(found, wanted.numpy(), atol=3e-5)


def test_who_is_fast(tiny_of: Folder) -> None:
    kinds = {f: type(forward_for(body(tiny_of(f)), Readout("body"))) for f in ("bert", "gpt2")}
    assert kinds == {"bert": FastForward, "gpt2": Forward}


def test_a_row_without_tokens_is_zeros() -> None:
    hidden = torch.full((2, 3, 4), float("nan"))
    hidden[1] = 2.0
    mask = torch.tensor([[0, 0, 0], [1, 1, 0]])
    for pooling in ("mean", "first", "last"):
        found = Readout("body", pooling).pool(hidden, mask)
        assert found.tolist() == [[0.0] * 4, [2.0] * 4]
    assert Readout("body").pool(torch.zeros(2, 0, 4), torch.zeros(2, 0)).shape == (2, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "xlnet"])
def test_many_parts_have_the_gradient_of_one(
    family: str, dtype: torch.dtype, tiny_of: Folder
) -> None:
    """Also where each part's gradients overwrite those of the part before it in their homes."""
    texts, others = TEXTS[:4], TEXTS[4:8]
    model, tokenizer = body(tiny_of(family)), load_tokenizer(base_of(tiny_of(family)))
    compute = made(forward_for(model, Readout("body", "mean", normalise=True)), dtype)
    store = Embedding().encode(pa.table({"text": texts, "other": others}), [], tokenizer, 60)
    pad: Any = tokenizer.pad_token_id
    batch = GroupRows(store, pad, CPU, 32).collate(np.arange(4))
    assert len(batch.inputs["parts"]) > 2
    vectors: Any = compute.forward(batch)
    loss = cross_entropy(20 * vectors[:, 0] @ vectors[:, 1].T, torch.arange(4))
    loss.backward()
    compute.collect(accumulate=False)
    found = grads_of(model)

    twin = body(tiny_of(family))
    one = torch.stack([alone(twin, tokenizer, text, "mean") for text in texts + others])
    one = normalize(one, dim=-1)
    wanted = cross_entropy(20 * one[:4] @ one[4:].T, torch.arange(4))
    wanted.backward()
    exact = dtype == torch.float32
    near = pytest.approx(float(wanted.detach()), rel=1e-4 if exact else 0.05)
    assert float(loss.detach()) == near
    theirs = grads_of(twin)
    assert set(found) >= set(theirs)
    size = max(float(grad.abs().max()) for grad in theirs.values())
    for name, grad in theirs.items():
        assert float((found[name] - grad).abs().max()) < size * (1e-4 if exact else 0.08), name
