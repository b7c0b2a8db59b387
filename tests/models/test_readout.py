"""The last layer takes in a unit, in every family and under an adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import base_of
from warmstart.methods.base import Method
from warmstart.methods.full import Full
from warmstart.methods.lora import LoRA
from warmstart.models.architectures import FAMILIES
from warmstart.models.head_layers import begin_at, last_layer, rescale
from warmstart.models.heads import LABELS, VALUE
from warmstart.models.loading import load_headed

Folder = Callable[[str], Path]
VALUED = [name for name in FAMILIES if name != "pegasus"]
BARE = ("gpt2", "llama", "mistral", "qwen2", "qwen3")


@pytest.mark.parametrize("method", [Full(), LoRA()], ids=["full", "lora"])
@pytest.mark.parametrize("family", VALUED)
@torch.no_grad()
def test_answers_in_another_unit(family: str, method: Method, tiny_of: Folder) -> None:
    model: Any = method.attach(load_headed(base_of(tiny_of(family)), VALUE, ["score"], 0), 0)
    model.eval()
    weight, bias = last_layer(model)
    assert weight.requires_grad and weight.shape[0] == 1
    if bias is not None:
        bias.fill_(0.25)
    ids = torch.tensor([[1, 9, 8, 7, 6, 2]])
    before = model(input_ids=ids).logits
    left = rescale(model, 40.0, 3.0)
    assert left == (40.0 if family in BARE else 0.0)
    torch.testing.assert_close(model(input_ids=ids).logits + left, 3.0 * before + 40.0)


def test_labels_begin_as_likely_as_they_are(tiny_of: Folder) -> None:
    model: Any = load_headed(base_of(tiny_of("bert")), LABELS, ["a", "b"], 0)
    begin_at(model, [0.1, 0.5])
    _, bias = last_layer(model)
    assert bias is not None
    torch.testing.assert_close(torch.sigmoid(bias.detach()), torch.tensor([0.1, 0.5]))
    before = bias.detach().clone()
    begin_at(model, [0.9, 0.9])  # it has been trained, for all that is known
    assert torch.equal(bias, before)
    begin_at(load_headed(base_of(tiny_of("gpt2")), LABELS, ["a", "b"], 0), [0.1, 0.5])
