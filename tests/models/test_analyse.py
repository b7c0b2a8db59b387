"""Architectures that stand in no table: their parts are found, and every method works on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from learning import ready
from warmstart import part as parts
from warmstart.errors import BaseModelError, RecipeError
from warmstart.models import architectures as analyse
from warmstart.models.architectures import (
    FAMILIES,
    body_of,
    family_of,
    layers_of,
)
from warmstart.models.modules import adapter_targets, head_names, match_modules, norm_names

Folder = Callable[[str], Path]
SMALL: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
UNSEEN: dict[str, dict[str, Any]] = {
    "deberta-v2": SMALL,
    "mpnet": SMALL | {"pad_token_id": 1},
    "albert": SMALL | {"embedding_size": 16},
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi": SMALL,
    "gemma": SMALL | {"num_key_value_heads": 1, "head_dim": 16},
    "falcon": SMALL,
    "bloom": {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 2, "pad_token_id": 0},
    "mt5": {"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2,
            "num_heads": 2, "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0},
}  # fmt: skip
METHODS = ("lora", "adapter", "ia3", "layernorm", "partial", "full", "prompt_tuning")
LENGTHS = torch.tensor([5, 5])
IDS = torch.tensor([[3, 8, 9, 10, 2], [3, 20, 21, 22, 2]])


def model_of(name: str) -> Any:
    config: Any = AutoConfig.for_model(name, **UNSEEN[name])
    config.num_labels = 3
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_found(name: str) -> None:
    model = model_of(name)
    family = family_of(model.config)
    assert name not in FAMILIES and name in family.note and "looking at its modules" in family.note
    assert family == family_of(model.config.to_dict())
    expected = {"albert": 1, "mt5": 4}.get(name, 2)
    assert len(layers_of(model)) == expected
    assert model.get_submodule(family.output).weight.shape[0] == 3
    kind = {"mt5": "encoder-decoder"} | dict.fromkeys(("deberta-v2", "mpnet", "albert"), "encoder")
    assert family.kind == kind.get(name, "decoder")
    beside = {id(p) for p in model.parameters()} - {id(p) for p in body_of(model).parameters()}
    heads = {id(p) for h in head_names(model) for p in model.get_submodule(h).parameters()}
    assert beside <= heads
    attention, everything = (adapter_targets(model, which) for which in ("attention", "all"))
    assert attention and set(attention) < set(everything)
    assert match_modules(model, family.keys_values)
    assert len(match_modules(model, family.feed_forward_out)) == expected
    assert len(match_modules(model, family.attention_out)) >= expected
    assert norm_names(model)


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("method", METHODS)
def test_methods_work(method: str, name: str) -> None:
    """An adapter of every kind is attached, changes nothing yet, and gets a gradient."""
    settings = {"layers": 1} if method == "partial" else {}
    part: Any = parts.make("method", method, settings)
    model = model_of(name)
    if method == "prompt_tuning" and name == "mt5":
        with pytest.raises(RecipeError, match="take lora"):
            part.attach(model, 0)
        return
    with torch.no_grad():
        expected = ready(model).logits(IDS, LENGTHS, training=False)
    made = part.attach(model, 0)
    compute = ready(made)
    found = compute.logits(IDS, LENGTHS, training=True)
    if method != "prompt_tuning" and not _drops(name):
        torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-4)
    found.square().sum().backward()
    got = [n for n, p in made.named_parameters() if p.grad is not None]
    assert any(name not in head_names(model) for name in got)


def _drops(name: str) -> bool:
    return name in ("deberta-v2", "mpnet", "opt", "mt5", "albert")


def test_an_architecture_that_transformers_does_not_know() -> None:
    with pytest.raises(BaseModelError, match="'brt' is not supported.* Did you mean 'bert'"):
        family_of({"model_type": "brt"})


def test_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = model_of("opt").config
    family_of(config)

    def again(*_: Any) -> Any:
        raise AssertionError("built twice")

    monkeypatch.setattr(analyse, "skeleton", again)
    family_of(config)


def test_a_skeleton_has_no_memory() -> None:
    model = analyse.skeleton(model_of("phi").config)
    assert {p.device.type for p in model.parameters()} == {"meta"}
