"""What LoRA can be told: DoRA, rsLoRA, PiSSA, a base in few bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from learning import base_of, classifier, fit, ready
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.methods.lora import LoRA
from warmstart.models import loading as backbone
from warmstart.models.fast.forward import FastForward
from warmstart.models.peft.quantization import RoundedLinear, quantise
from warmstart.models.saved import load_saved

Folder = Callable[[str], Path]
IDS = torch.tensor([[1, 8, 9, 10, 2], [1, 20, 21, 22, 2]])
LENGTHS = torch.tensor([5, 5])
KINDS: list[dict[str, Any]] = [
    {"use_dora": True},
    {"use_rslora": True},
    {"init": "pissa"},
    {"init": "pissa", "use_rslora": True},
    {"base_bits": 8},
    {"base_bits": 4, "use_dora": True},
]


def logits(model: Any, *, fast: bool = True) -> torch.Tensor:
    with torch.no_grad():
        return ready(model, fast=fast).logits(IDS, LENGTHS, training=False)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_begins_trains_saves_merges(
    kind: dict[str, Any], family: str, tiny_of: Folder, tmp_path: Path
) -> None:
    if kind.get("base_bits") and family == "gpt2":
        with pytest.raises(RecipeError, match=r"method\.base_bits.*leave it at 32"):
            LoRA(**kind).attach(classifier(tiny_of(family)), 0)
        return
    method = LoRA(rank=4, **kind)
    plain, base = classifier(tiny_of(family)), base_of(tiny_of(family))
    if "base_bits" in kind:
        quantise(plain, kind["base_bits"])
    expected = logits(plain, fast=False)
    model: Any = method.attach(classifier(tiny_of(family)), 0)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-4)
    run = fit(tiny_of(family), tmp_path, model=model, rows=12, epochs=2, learning_rate=1e-2)
    slow = "use_dora" in kind or "base_bits" in kind
    assert isinstance(run.forward, FastForward) == (family == "bert" and not slow)
    run.run()
    trained = logits(model)
    assert (trained - expected).abs().max() > 1e-3
    torch.testing.assert_close(logits(model, fast=False), trained, atol=1e-5, rtol=1e-4)
    method.save(model, backbone.load_tokenizer(base), tmp_path / "out", base)
    loaded, _ = load_saved(tmp_path / "out")
    torch.testing.assert_close(logits(loaded), trained, atol=2e-5, rtol=1e-4)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == (8 if "init" in kind else 4)
    assert config["init_lora_weights"] is True
    whole = method.merge(model)
    torch.testing.assert_close(logits(whole), trained, atol=1e-5, rtol=1e-4)
    assert not any(isinstance(m, RoundedLinear) for m in whole.modules())


def test_what_is_refused_when_the_recipe_is_read() -> None:
    for other in ({"use_dora": True}, {"base_bits": 4}):
        keys = {"method": "lora", "method.init": "pissa"}
        with pytest.raises(RecipeError, match="pissa and .* take one"):
            Recipe.of(keys | {f"method.{key}": value for key, value in other.items()})
    with pytest.raises(RecipeError, match="base_bits"):
        Recipe.of({"method": "lora", "method.base_bits": 3})


@pytest.mark.parametrize(("bits", "error", "bytes_"), [(8, 0.01, 1.1), (4, 0.12, 0.6)])
def test_rounding(bits: int, error: float, bytes_: float) -> None:
    """Near the weight, in few bytes, the same each time; an odd size too."""
    torch.manual_seed(0)
    layer = nn.Linear(96, 33)
    rounded, again = RoundedLinear(layer, bits), RoundedLinear(layer, bits)
    gap = (rounded.weight - layer.weight).norm() / layer.weight.norm()
    assert 0 < gap < error
    assert torch.equal(rounded.weight, again.weight)
    size = sum(b.numel() * b.element_size() for b in rounded.buffers())
    assert size <= bytes_ * layer.weight.numel()
    x = torch.randn(5, 96, requires_grad=True)
    torch.testing.assert_close(rounded(x), x @ rounded.weight.T + layer.bias)
    rounded(x).sum().backward()
    torch.testing.assert_close(x.grad, rounded.weight.sum(0).expand(5, -1))
    assert not any("weight" in name for name in rounded.state_dict())


def test_a_level_of_four_bits_is_kept() -> None:
    """Weights that are levels times a scale come back exactly."""
    from warmstart.models.peft.quantization import NF4

    layer = nn.Linear(64, 2, bias=False)
    layer.weight.data = torch.stack([torch.tensor(NF4 * 4) * 0.5, torch.tensor(NF4 * 4) * 3])
    assert torch.equal(RoundedLinear(layer, 4).weight, layer.weight)
