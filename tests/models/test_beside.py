"""Layers of PEFT's LoRA computed beside their frozen matrix: PEFT's own answers and gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from warmstart.models.fast import beside
from warmstart.models.fast.beside import compute_beside
from warmstart.models.forward import Forward
from warmstart.models.head_layers import HEAD

IDS = torch.randint(5, 100, (3, 12), generator=torch.Generator().manual_seed(0))


def adapted(*, bias: bool = False, **settings: Any) -> Any:
    """A tiny Llama with adapters that answer something."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, attention_bias=bias, mlp_bias=bias,
    )  # fmt: skip
    lora = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **settings)
    model = get_peft_model(LlamaForCausalLM(config), lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def step(model: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The loss of a batch and the gradient of every trained weight."""
    model.zero_grad()
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def far(own: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """How far apart the gradients of two steps are, beside the length of the second."""
    assert own.keys() == other.keys()
    names = own.keys() - {"loss"}
    gaps = sum(float((own[name] - other[name]).square().sum()) for name in names)
    return (gaps / sum(float(other[name].square().sum()) for name in names)) ** 0.5


@pytest.mark.parametrize(("bias", "packed"), [(False, 10**9), (True, 10**9), (True, 0)])
def test_a_step_in_bf16_is_peft_s(bias: bool, packed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "PACKED", packed)
    model = adapted(bias=bias)
    exact, theirs = step(model, torch.float32), step(model, torch.bfloat16)
    assert compute_beside(model) == 14
    ours = step(model, torch.bfloat16)
    assert far(ours, exact) < 1.2 * far(theirs, exact) < 0.06
    assert float(ours["loss"]) == pytest.approx(float(exact["loss"]), rel=5e-3)
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)  # it was computed so
    assert all(torch.equal(a, b) for a, b in zip(step(model, torch.float32).values(),
                                                 exact.values(), strict=True))  # fmt: skip


def test_the_layers_of_gpt2_stand_the_other_way_round() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=100, n_embd=64, n_layer=2, n_head=4, attn_pdrop=0.0,
                        embd_pdrop=0.0, resid_pdrop=0.0)  # fmt: skip
    lora = LoraConfig(r=4, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True,
                      init_lora_weights=False)  # fmt: skip
    model = get_peft_model(GPT2LMHeadModel(config), lora)
    exact, theirs = step(model, torch.float32), step(model, torch.bfloat16)
    assert compute_beside(model) == 8
    assert far(step(model, torch.bfloat16), exact) < 1.2 * far(theirs, exact) < 0.06


def test_a_planted_fault_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted()
    exact = step(model, torch.float32)
    compute_beside(model)
    for module in model.modules():
        if hasattr(module, "lora_A"):
            monkeypatch.setitem(module.scaling, "default", 3.6)
    assert far(step(model, torch.bfloat16), exact) > 0.1


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.3}, {"use_dora": True}])
def test_what_computes_something_else_stays_peft_s(settings: dict[str, Any]) -> None:
    model = adapted(**settings).train()
    theirs = step(model, torch.bfloat16)
    compute_beside(model)
    ours = step(model, torch.bfloat16)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_without_the_adapter_the_base_answers() -> None:
    model = adapted()
    compute_beside(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        with model.disable_adapter():
            off = model(input_ids=IDS).logits
        assert not torch.equal(model(input_ids=IDS).logits, off)
        model.merge_adapter()
        merged = model(input_ids=IDS).logits
        model.unmerge_adapter()
    base = model.unload()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(base(input_ids=IDS).logits, off)
        assert not torch.equal(merged, off)


def test_a_copy_reads_its_own_weights() -> None:
    model = adapted()
    compute_beside(model)
    before = step(model, torch.bfloat16)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if "lora_B" in name or "base_layer" in name:
                parameter.zero_()
    assert far(step(twin, torch.bfloat16), before) > 0.1
    assert all(torch.equal(a, b) for a, b in zip(step(model, torch.bfloat16).values(),
                                                 before.values(), strict=True))  # fmt: skip


def test_training_in_bf16_computes_so() -> None:
    model = adapted()
    Forward(model, HEAD).prepare(torch.float32, torch.device("cpu"), checkpointing=False)
    assert not any("forward" in vars(module) for module in model.modules())
    Forward(model, HEAD).prepare(torch.bfloat16, torch.device("cpu"), checkpointing=False)
    assert sum("forward" in vars(module) for module in model.modules()) == 14
