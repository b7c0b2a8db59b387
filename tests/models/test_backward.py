"""The sublayers with their own backward pass equal the same layer left to autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import FAST, classifier, gradients, messages, ready, store_of
from warmstart.data.tokens.batching import pad
from warmstart.models.fast.mixed_precision import MixedPrecision

Folder = Callable[[str], Path]
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def batch(folder: Path, *, padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    store, pad_id = store_of(folder, messages(6, seed=4)[0])
    ids, lengths = (torch.from_numpy(x) for x in pad(store, np.arange(6), pad_id))
    if padded:
        assert lengths.min() < lengths.max()
        return ids, lengths
    shortest = int(lengths.min())
    return ids[:, :shortest], torch.full_like(lengths, shortest)


def computing(folder: Path, dropout: float, *, manual: bool, dtype: torch.dtype) -> Any:
    """A model with large weights, and places for its gradients in `dtype`, float32 too."""
    model = classifier(folder, dropout=dropout)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=rng), alpha=0.15)
    compute = ready(model, dtype)
    groups = compute.encoder.matrices()
    if dtype == torch.float32:
        places = [[m.weight for m in g] for g in groups] + [[m.bias for m in g] for g in groups]
        compute._mixed_precision = compute.encoder.mixed_precision = MixedPrecision(places, dtype)
        compute.refresh()
    compute.encoder.manual_backward = manual
    return compute


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("cls_only", [True, False])
def test_equals_autograd(
    family: str, dropout: float, padded: bool, cls_only: bool, tiny_of: Folder
) -> None:
    """In float32, where nothing is rounded away: the loss and every gradient."""
    found = []
    for manual in (False, True):
        compute = computing(tiny_of(family), dropout, manual=manual, dtype=torch.float32)
        compute.encoder.cls_only = cls_only
        found.append(gradients(compute, *batch(tiny_of(family), padded=padded), TARGETS))
    (slow_loss, slow), (loss, fast) = found
    torch.testing.assert_close(loss, slow_loss, atol=1e-6, rtol=1e-6)
    assert fast.keys() == slow.keys()
    for name, expected in slow.items():
        torch.testing.assert_close(fast[name], expected, atol=2e-5, rtol=2e-4, msg=name)


def test_sixteen_bits_are_as_near_as_autograds(tiny_of: Folder) -> None:
    """In bf16 both round, and neither is further than the other from the float32 gradient."""
    ids, lengths = batch(tiny_of("bert"), padded=True)
    exact, slow, fast = (
        gradients(computing(tiny_of("bert"), 0.0, manual=h, dtype=d), ids, lengths, TARGETS)[1]
        for h, d in ((False, torch.float32), (False, torch.bfloat16), (True, torch.bfloat16))
    )

    def distance(found: dict[str, torch.Tensor]) -> float:
        gaps = sum(((found[n] - g) ** 2).sum() for n, g in exact.items())
        return float(gaps / sum((g**2).sum() for g in exact.values())) ** 0.5

    assert distance(fast) < max(0.05, 1.3 * distance(slow))


def test_is_what_training_in_sixteen_bits_uses(
    tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ready(classifier(tiny_of("bert")), torch.bfloat16)
    calls: list[int] = []
    manual = compute.encoder._sublayers
    monkeypatch.setattr(compute.encoder, "_sublayers", lambda *a: (calls.append(1), manual(*a))[1])
    gradients(compute, *batch(tiny_of("bert"), padded=True), TARGETS)
    assert len(calls) == 2  # the layers of the tiny model
    compute.logits(*batch(tiny_of("bert"), padded=True), training=False)
    assert len(calls) == 2
    compute.model.requires_grad_(False)
    for parameter in compute.model.classifier.parameters():
        parameter.requires_grad_(True)
    compute.logits(*batch(tiny_of("bert"), padded=True), training=True)
    assert len(calls) == 2
