"""Heads that read every token: bodies under names of their own, virtual tokens, frozen bodies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import ready
from warmstart import part as parts
from warmstart.models.architectures import body_of
from warmstart.models.base import resolve
from warmstart.models.heads import SPAN
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_headed
from warmstart.models.modules import head_names

Folder = Callable[[str], Path]
IDS = torch.tensor([[1, 7, 9, 12, 2], [1, 8, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gpt2"])
def test_the_body_of_a_language_model_under_a_span_head(
    family: str, tiny_of: Folder, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        writer: Any = AutoModelForCausalLM.from_pretrained(tiny_of(family))
        writer.save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(tiny_of(family)).save_pretrained(tmp_path)
    model = load_headed(resolve(str(tmp_path)), SPAN, [], 0)
    assert head_names(model) == ["qa_outputs"]
    wanted = body_of(writer).state_dict()
    found = body_of(model).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "p_tuning", "frozen"])
def test_as_many_outputs_as_tokens(method: str, tiny_of: Folder) -> None:
    made: Any = parts.make("method", method, {})
    model = made.attach(load_headed(resolve(str(tiny_of("bert"))), SPAN, [], 0), 0)
    compute = ready(model)
    with torch.no_grad():
        both = compute.logits(IDS, LENGTHS, training=False)
        alone = compute.logits(IDS[1:, :3], LENGTHS[1:], training=False)
    assert both.shape == (2, 5, 2)
    torch.testing.assert_close(alone[0], both[1, :3], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(both[0, 1], both[0, 2], atol=1e-6), "each token has its own"
