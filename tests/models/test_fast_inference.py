"""The layers over a filled table of tokens equal the same layers over rows of texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import FAST, classifier, ready
from warmstart.models.fast.block import padding_bias

Folder = Callable[[str], Path]


def texts(count: int, width: int, *, padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [count, width] and lengths, one of them full."""
    rng = torch.Generator().manual_seed(count * 100 + width)
    ids = torch.randint(5, 50, (count, width), generator=rng)
    lengths = torch.randint(1, width + 1, (count,), generator=rng)
    lengths[-1] = width
    return ids, lengths if padded else torch.full_like(lengths, width)


def awake(folder: Path, *, adapted: bool, dtype: torch.dtype = torch.float32) -> Any:
    """An encoder whose norms and biases are not 0 or 1; its query under a low-rank change."""
    model = classifier(folder)
    if adapted:
        from peft import LoraConfig, get_peft_model

        names = ["query" if hasattr(model.config, "hidden_act") else "q_lin"]
        model = get_peft_model(model, LoraConfig(target_modules=names, r=2))
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=rng), alpha=0.15)
    return ready(model, dtype)


def embedded(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    hidden = encoder.norm(encoder.embed(ids, None).to(encoder.dtype), encoder.embedding_norm)
    return hidden if encoder.project is None else encoder.dense(encoder.project, hidden)


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("cls_only", [True, False])
@pytest.mark.parametrize("shape", [(3, 7), (4, 16), (1, 1), (70, 2)])
def test_equals_the_layers_over_texts(
    family: str,
    adapted: bool,
    padded: bool,
    cls_only: bool,
    shape: tuple[int, int],
    tiny_of: Folder,
) -> None:
    encoder = awake(tiny_of(family), adapted=adapted).encoder
    encoder.cls_only, encoder.manual_backward = cls_only, False
    ids, lengths = texts(*shape, padded=padded)
    expected = encoder.forward(ids, lengths, training=False)
    assert expected.requires_grad
    with torch.no_grad():
        bias = padding_bias(lengths, shape[1], encoder.dtype)
        found = encoder.infer(embedded(encoder, ids), bias)
    real = torch.arange(expected.shape[1]) < lengths[:, None]
    assert found.shape == expected.shape
    torch.testing.assert_close(found[real], expected.detach()[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("trained", [True, False])
def test_answers_in_16_bits_take_products_of_few_shapes(
    trained: bool, tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 16-bit copies of trained weights and without; nearly the answers of float32."""
    exact = awake(tiny_of("bert"), adapted=False)
    rough = awake(tiny_of("bert"), adapted=False)
    rough.model.requires_grad_(trained)
    rough.prepare(torch.bfloat16, torch.device("cpu"), checkpointing=False)
    assert (rough.encoder.mixed_precision is not None) == trained
    heights: set[int] = set()
    linear = torch.nn.functional.linear

    def seen(x: torch.Tensor, *others: Any) -> torch.Tensor:
        if x.dtype == torch.bfloat16:
            assert x.ndim == 2
            heights.add(len(x))
        return linear(x, *others)

    monkeypatch.setattr(torch.nn.functional, "linear", seen)
    with torch.no_grad():
        for width in range(2, 40):
            ids, lengths = texts(128 // width, width, padded=True)
            expected = exact.features(ids, lengths)
            found = rough.features(ids, lengths)
            assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert heights == {64, 128}


def test_training_keeps_to_the_layers_with_gradients(
    tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout and gradients belong to them."""
    compute = awake(tiny_of("bert"), adapted=False, dtype=torch.bfloat16)
    monkeypatch.setattr(compute.encoder, "infer", None)
    ids, lengths = texts(3, 7, padded=True)
    compute.logits(ids, lengths, training=True)
    compute.logits(ids, lengths, training=False)
    with torch.no_grad():
        compute.logits(ids, lengths, training=True)
        with pytest.raises(TypeError):
            compute.logits(ids, lengths, training=False)
