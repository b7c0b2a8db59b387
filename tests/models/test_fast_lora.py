"""Frozen layers with low-rank updates, differentiated by hand, equal the same under autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from learning import CPU, FAST, classifier, gradients, messages, ready, store_of
from warmstart.data.tokens.batching import pad
from warmstart.methods.layernorm import LayerNorm
from warmstart.methods.lora import LoRA
from warmstart.models.fast.dropout import DropoutPool
from warmstart.models.fast.lora import FrozenLinears

Folder = Callable[[str], Path]
Targets = Literal["attention", "all"]
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2])


def batch(folder: Path, *, padded: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    store, pad_id = store_of(folder, messages(6, seed=4)[0])
    ids, lengths = (torch.from_numpy(x) for x in pad(store, np.arange(6), pad_id))
    if padded:
        assert lengths.min() < lengths.max()
        return ids, lengths
    shortest = int(lengths.min())
    return ids[:, :shortest], torch.full_like(lengths, shortest)


def adapted(folder: Path, *, targets: Targets = "all", dropout: float = 0.0, **keys: Any) -> Any:
    """A classifier with large weights, whose changes have begun to change something."""
    model = classifier(folder, dropout=dropout)
    model = LoRA(rank=3, alpha=5.0, targets=targets, **keys).attach(model, 0)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=rng), alpha=0.15)
    return model


def prepared(model: Any, *, manual: bool = True, **keys: Any) -> Any:
    compute = ready(model, **keys)
    compute.encoder.manual_backward = manual
    return compute


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("targets", ["attention", "all"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("cls_only", [True, False])
def test_equals_autograd(
    family: str, targets: Targets, dropout: float, cls_only: bool, tiny_of: Folder
) -> None:
    """In float32: the loss, every gradient, and nothing else has one."""
    found = []
    for manual in (False, True):
        model = adapted(tiny_of(family), targets=targets, dropout=dropout)
        compute = prepared(model, manual=manual)
        compute.encoder.cls_only = cls_only
        found.append(gradients(compute, *batch(tiny_of(family), padded=cls_only), TARGETS))
        assert found[-1][1].keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    (slow_loss, slow), (loss, fast) = found
    torch.testing.assert_close(loss, slow_loss, atol=1e-6, rtol=1e-6)
    for name, expected in slow.items():
        torch.testing.assert_close(fast[name], expected, atol=2e-5, rtol=2e-4, msg=name)
    assert min(g.abs().max() for n, g in slow.items() if "lora" in n and "layer.0" in n) > 1e-5


@pytest.mark.parametrize("family", FAST)
def test_equals_peft(family: str, tiny_of: Folder) -> None:
    """The model as transformers and PEFT compute it themselves."""
    model = adapted(tiny_of(family))
    twin = copy.deepcopy(model).train()
    ids, lengths = batch(tiny_of(family))
    loss, ours = gradients(prepared(model), ids, lengths, TARGETS)
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    expected = twin(input_ids=ids, attention_mask=mask, labels=TARGETS).loss
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), atol=1e-6, rtol=1e-6)
    for name, parameter in twin.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(ours[name], parameter.grad, atol=2e-5, rtol=2e-4, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_gives_the_same_gradients(dtype: torch.dtype, tiny_of: Folder) -> None:
    """With both kinds of dropout: their masks are drawn outside of what is computed twice."""
    found = []
    for checkpointing in (False, True):
        model = adapted(tiny_of("bert"), dropout=0.2)
        for module in model.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = torch.nn.Dropout(0.3)
        compute = prepared(model, dtype=dtype, checkpointing=checkpointing)
        compute.encoder.cls_only = False
        found.append(gradients(compute, *batch(tiny_of("bert")), TARGETS))
    (loss, one), (loss_again, other) = found
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_frozen_layers_between_trained_norms(tiny_of: Folder) -> None:
    """Nothing beside the matrices: the norms' gradients go through them all the same."""
    found = []
    for manual in (False, True):
        model = LayerNorm().attach(classifier(tiny_of("bert")), 0)
        compute = prepared(model, manual=manual)
        found.append(gradients(compute, *batch(tiny_of("bert")), TARGETS)[1])
    assert found[0].keys() == found[1].keys()
    assert any("layer.0" in name for name in found[0])
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=2e-5, rtol=2e-4, msg=name)


def test_micro_batches_add_up(tiny_of: Folder) -> None:
    compute = prepared(adapted(tiny_of("bert")))
    ids, lengths = batch(tiny_of("bert"))
    _, once = gradients(compute, ids, lengths, TARGETS)
    _, twice = gradients(compute, ids, lengths, TARGETS)
    for name, grad in once.items():
        torch.testing.assert_close(twice[name], 2 * grad, atol=1e-6, rtol=1e-5, msg=name)


def test_dropout_on_the_input_of_the_changes() -> None:
    """Value and gradients equal those of autograd under the very same masks; p as asked for."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    body = torch.nn.ModuleDict({name: torch.nn.Linear(8, 6) for name in "qkv"})
    config = LoraConfig(r=2, lora_alpha=3, lora_dropout=0.25, target_modules=["q", "v"])
    model: Any = get_peft_model(body, config)  # pyright: ignore[reportArgumentType]
    layers = [model.base_model.model[name] for name in "qkv"]
    for layer in (layers[0], layers[2]):
        torch.nn.init.normal_(layer.lora_B["default"].weight)
    pool = DropoutPool(0.25, torch.float32, CPU)
    pool.begin_step(7)
    step = FrozenLinears(layers, lambda weight: weight).for_step({0.25: pool}, 50)
    x, pull = torch.randn(50, 8), torch.randn(50, 18)
    y = step(x)
    under = step.backward(pull, x, torch.ones(50, 8))
    ours = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert step.masks is not None
    masks = [bits.view(50, 8).ne(0) * scale for bits, scale in step.masks if bits is not None]
    assert len(masks) == 2 and not torch.equal(*masks)
    assert all(0.15 < (mask == 0).float().mean() < 0.35 for mask in masks)
    x.requires_grad_()
    parts = []
    for layer in layers:
        part = getattr(layer, "base_layer", layer)(x)
        if hasattr(layer, "lora_A"):
            low = layer.lora_A["default"](x * masks.pop(0))
            part = part + layer.lora_B["default"](low) * layer.scaling["default"]
        parts.append(part)
    expected = torch.cat(parts, 1)
    expected.backward(pull)
    torch.testing.assert_close(y, expected.detach())
    assert x.grad is not None and under is not None
    torch.testing.assert_close(under, x.grad + 1, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-5, msg=name)


def test_sixteen_bits_are_as_near_as_autograds(tiny_of: Folder) -> None:
    ids, lengths = batch(tiny_of("bert"))
    exact, slow, fast = (
        gradients(
            prepared(adapted(tiny_of("bert")), manual=h, dtype=d), ids, lengths, TARGETS
        )[1]
        for h, d in ((False, torch.float32), (False, torch.bfloat16), (True, torch.bfloat16))
    )  # fmt: skip

    def distance(found: dict[str, torch.Tensor]) -> float:
        gaps = sum(((found[n] - g) ** 2).sum() for n, g in exact.items())
        return float(gaps / sum((g**2).sum() for g in exact.values())) ** 0.5

    assert distance(fast) < max(0.05, 1.3 * distance(slow))


def test_whose_gradients_are_computed_by_hand(
    tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training alone, and no layer whose frozen parts are not all frozen."""
    calls: list[int] = []

    def counted(model: Any, *, training: bool = True) -> int:
        compute = prepared(model)
        compute.encoder.cls_only = False
        manual = compute.encoder._sublayers
        monkeypatch.setattr(
            compute.encoder, "_sublayers", lambda *a: (calls.append(1), manual(*a))[1]
        )
        calls.clear()
        compute.logits(*batch(tiny_of("bert")), training=training)
        return len(calls)

    model = adapted(tiny_of("bert"))
    assert counted(model) == 2
    assert counted(model, training=False) == 0
    biased = model.get_base_model().bert.encoder.layer[1].output.dense.base_layer.bias
    biased.requires_grad_(True)
    assert counted(model) == 1
    model.requires_grad_(False)
    assert counted(model) == 0
