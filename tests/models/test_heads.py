"""The head as a function of one hidden state; where a head begins; what an adapter changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from learning import FAST, SLOW, classifier
from warmstart.models.architectures import body_of, family_of, layers_of
from warmstart.models.head_layers import (
    head_logits,
    reset_head,
    set_head_dropout,
    unwrap,
)
from warmstart.models.modules import adapter_targets, head_modules

Folder = Callable[[str], Path]


@pytest.mark.parametrize("family", FAST)
def test_logits_from_one_state(family: str, tiny_of: Folder) -> None:
    """As transformers computes them from its own hidden states."""
    model = classifier(tiny_of(family))
    reset_head(model, 3)
    ids = torch.tensor([[1, 8, 9, 10, 2], [1, 20, 21, 22, 2]])
    with torch.no_grad():
        hidden = body_of(model)(input_ids=ids).last_hidden_state
        expected = model(input_ids=ids).logits
        found = head_logits(model, hidden[:, 0])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_a_fresh_head(family: str, tiny_of: Folder) -> None:
    one, other, third = (classifier(tiny_of(family)) for _ in range(3))
    for model, seed in ((one, 1), (other, 1), (third, 2)):
        reset_head(model, seed)
    modules = head_modules(one)
    assert modules
    for first, second, different in zip(
        modules, head_modules(other), head_modules(third), strict=True
    ):
        for a, b, c in zip(
            first.parameters(), second.parameters(), different.parameters(), strict=True
        ):
            assert torch.equal(a, b)
            if a.ndim > 1:
                assert not torch.equal(a, c)
                assert 0.01 < a.std() < 0.03
            else:
                assert not a.any()


@pytest.mark.parametrize("family", FAST)
def test_dropout_of_the_head_alone(family: str, tiny_of: Folder) -> None:
    model = classifier(tiny_of(family), dropout=0.1)
    set_head_dropout(model, 0.4)
    body = {id(module) for module in body_of(model).modules()}
    inside = [m.p for m in model.modules() if isinstance(m, nn.Dropout) and id(m) in body]
    outside = [m.p for m in model.modules() if isinstance(m, nn.Dropout) and id(m) not in body]
    assert set(inside) == {0.1} and set(outside) == {0.4}
    name = {"distilbert": "seq_classif_dropout"}.get(family, "classifier_dropout")
    assert getattr(model.config, name) == 0.4


@pytest.mark.parametrize("family", [*FAST, *SLOW])
def test_adapter_targets(family: str, tiny_of: Folder) -> None:
    """Inside the blocks, never in the head; attention's are some of all."""
    model = classifier(tiny_of(family))
    attention, everything = (adapter_targets(model, which) for which in ("attention", "all"))
    assert attention and set(attention) <= set(everything)
    ends = family_of(model.config).attention_modules
    assert {name.rpartition(".")[2] for name in attention} == set(ends)
    head = {id(m) for module in head_modules(model) for m in module.modules()}
    for name in everything:
        module = model.get_submodule(name)
        assert module.weight.ndim == 2
        assert id(module) not in head
    adapted = {id(model.get_submodule(name)) for name in attention}
    assert all(adapted & {id(module) for module in block.modules()} for block in layers_of(model))


def test_unwrap(tiny_of: Folder) -> None:
    from warmstart.methods.lora import LoRA

    model = classifier(tiny_of("bert"))
    assert unwrap(model) is model
    assert unwrap(LoRA().attach(model, 0)) is model
