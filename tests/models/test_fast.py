"""The fast encoder against its slow twin, the transformers model whose parameters it reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, classifier, gradients, messages, ready, store_of
from warmstart.data.tokens.batching import pad
from warmstart.models.architectures import body_of
from warmstart.models.fast.forward import FastForward

Folder = Callable[[str], Path]
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def batch(folder: Path, n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of unequal rows, padded on the right, and their lengths."""
    store, pad_id = store_of(folder, messages(n, seed=4)[0])
    ids, lengths = pad(store, np.arange(n), pad_id)
    assert lengths.min() < lengths.max()
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def mask_of(ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return (torch.arange(ids.shape[1]) < lengths[:, None]).long()


def wake(model: Any) -> Any:
    """Larger weights, norms and biases that are not 0 or 1, so that every term is seen."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.15)
    return model


@pytest.mark.parametrize("family", [*FAST, "xlm-roberta"])
def test_forward_equals_transformers(family: str, tiny_of: Folder) -> None:
    model = wake(classifier(tiny_of(family)))
    ids, lengths = batch(tiny_of(family))
    mask = mask_of(ids, lengths)
    compute = ready(model)
    assert isinstance(compute, FastForward)
    with torch.no_grad():
        expected = body_of(model)(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = model(input_ids=ids, attention_mask=mask).logits
        first = compute.features(ids, lengths)
        ours = compute.logits(ids, lengths, training=False)
        compute.encoder.cls_only = False
        everything = compute.encoder.forward(ids, lengths, training=False)
    torch.testing.assert_close(first, expected[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(everything[mask == 1], expected[mask == 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_token_types_equal_transformers(family: str, tiny_of: Folder) -> None:
    """Two texts in a row: the outputs, and the gradient of the embedding of the types."""
    model = wake(classifier(tiny_of(family)))
    twin = copy.deepcopy(model).train()
    ids, lengths = batch(tiny_of(family))
    types = (torch.arange(ids.shape[1]) >= (lengths // 2)[:, None]).long()
    compute = ready(model)
    assert isinstance(compute, FastForward)
    ours = compute.logits(ids, lengths, training=True, types=types)
    named = {"input_ids": ids, "attention_mask": mask_of(ids, lengths)}
    theirs = twin(**named, token_type_ids=types).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (theirs - twin(**named).logits).abs().max() > 1e-3
    for logits in (ours, theirs):
        torch.nn.functional.cross_entropy(logits, TARGETS).backward()
    found, expected = (
        body_of(one).get_submodule("embeddings.token_type_embeddings").weight.grad
        for one in (model, twin)
    )
    assert (expected.abs().amax(1) > 1e-6).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", [*FAST, "xlm-roberta"])
def test_gradients_equal_transformers(family: str, tiny_of: Folder) -> None:
    """All parameters, of the embeddings and the head too."""
    model = wake(classifier(tiny_of(family)))
    twin = copy.deepcopy(model)
    ids, lengths = batch(tiny_of(family))
    _, ours = gradients(ready(model), ids, lengths, TARGETS)
    twin.train()
    loss = twin(input_ids=ids, attention_mask=mask_of(ids, lengths), labels=TARGETS).loss
    loss.backward()
    moved = 0
    for name, weights in twin.named_parameters():
        expected = torch.zeros_like(weights) if weights.grad is None else weights.grad
        found = ours.get(name, torch.zeros_like(weights))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, msg=name)
        moved += bool(expected.abs().max() > 1e-6)
    assert moved > 0.8 * len(list(twin.parameters()))


@pytest.mark.parametrize("family", FAST)
def test_padding_changes_nothing(family: str, tiny_of: Folder) -> None:
    compute = ready(wake(classifier(tiny_of(family))))
    store, pad_id = store_of(tiny_of(family), messages(6, seed=4)[0])
    together = compute.logits(*batch(tiny_of(family)), training=False)
    wide = torch.full((1, 60), pad_id)
    for i in range(6):
        row = torch.from_numpy(store.row(i).astype(np.int64))
        length = torch.tensor([len(row)])
        alone = compute.logits(row[None], length, training=False)
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
        padded = wide.clone()
        padded[0, : len(row)] = row
        far = compute.logits(padded, length, training=False)
        torch.testing.assert_close(far[0], together[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_gives_the_same_gradients(
    dtype: torch.dtype, dropout: float, tiny_of: Folder
) -> None:
    """With dropout too: its masks are drawn outside of what is computed twice."""
    found = []
    for checkpointing in (False, True):
        model = classifier(tiny_of("bert"), dropout=dropout)
        compute = ready(model, dtype, checkpointing=checkpointing)
        found.append(gradients(compute, *batch(tiny_of("bert")), TARGETS))
    (loss, one), (loss_again, other) = found
    assert torch.equal(loss, loss_again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_checkpointing_computes_twice(tiny_of: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = ready(classifier(tiny_of("bert")), checkpointing=True)
    calls = []
    layer = compute.encoder._layer
    monkeypatch.setattr(compute.encoder, "_layer", lambda *a: (calls.append(1), layer(*a))[1])
    gradients(compute, *batch(tiny_of("bert")), TARGETS)
    assert len(calls) == 4  # two layers, forwards and again


@pytest.mark.parametrize("family", FAST)
def test_dropout_is_active_in_training_alone(family: str, tiny_of: Folder) -> None:
    compute = ready(classifier(tiny_of(family), dropout=0.3))
    ids, lengths = batch(tiny_of(family))
    with torch.no_grad():
        calm = [compute.logits(ids, lengths, training=False) for _ in range(2)]
        wild = []
        for seed in (1, 1, 2):
            compute.begin_step(seed)
            wild.append(compute.logits(ids, lengths, training=True))
    assert torch.equal(*calm)
    assert torch.equal(wild[0], wild[1])
    assert not torch.allclose(wild[0], wild[2], atol=1e-4)
    assert not torch.allclose(wild[0], calm[0], atol=1e-4)


def test_dropout_keeps_the_mean(tiny_of: Folder) -> None:
    """Over many masks the hidden states scatter around those without dropout."""
    model = classifier(tiny_of("bert"), dropout=0.1)
    compute = ready(model)
    compute.encoder.blocks = []  # the embeddings' dropout alone: what follows is not linear
    compute.encoder.cls_only = False
    ids, lengths = batch(tiny_of("bert"))
    with torch.no_grad():
        calm = compute.encoder.forward(ids, lengths, training=False)
        total = torch.zeros_like(calm)
        for seed in range(400):
            compute.begin_step(seed)
            total += compute.encoder.forward(ids, lengths, training=True)
    gap = (total / 400 - calm).abs().mean() / calm.abs().mean()
    assert gap < 0.03  # 0.333 / sqrt(400) = 0.017, times a mean absolute deviation of 0.8


@pytest.mark.parametrize("family", FAST)
def test_sixteen_bits_lead_the_same_way(family: str, tiny_of: Folder) -> None:
    """The gradient of every matrix points where the 32-bit one does."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = wake(classifier(tiny_of(family)))
        compute = ready(model, dtype)
        ids, lengths = batch(tiny_of(family), 24)
        found.append(gradients(compute, ids, lengths, TARGETS.repeat(4)))
        if dtype == torch.bfloat16:
            assert compute.encoder.mixed_precision is not None
    (loss, exact), (rough_loss, rough) = found
    assert abs(loss - rough_loss) < 0.05 * loss
    compared = 0
    for name, gradient in exact.items():
        if gradient.ndim == 2 and gradient.norm() > 1e-4:
            cosine = torch.cosine_similarity(gradient.flatten(), rough[name].flatten(), dim=0)
            assert cosine > 0.99, (name, float(cosine))
            compared += 1
    assert compared >= 12
