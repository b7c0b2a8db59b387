"""What stands before a language model's logits, against the logits of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import CPU, base_of
from tiny import tiny
from warmstart import part as parts
from warmstart.errors import BaseModelError
from warmstart.models.fast.forward import forward_for
from warmstart.models.fast.loss import Unprojected
from warmstart.models.generation import Language
from warmstart.models.heads import TEXT
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_headed

Folder = Callable[[str], Path]
FAMILIES = ("t5", "bart", "pegasus", "gpt2", "llama")
IDS = torch.tensor([[8, 9, 10, 11, 2], [20, 21, 2, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
WRITTEN = torch.tensor([[0, 7, 8], [0, 9, 0]])


def language(model: Any) -> Language:
    forward = forward_for(model)
    forward.prepare(torch.float32, CPU, checkpointing=False)
    return forward.language


def written_for(it: Language) -> torch.Tensor | None:
    return None if it.decodes else WRITTEN


def logits_of(model: Any, written: torch.Tensor | None) -> torch.Tensor:
    more = {} if written is None else {"decoder_input_ids": written}
    with torch.no_grad():
        return model.eval()(input_ids=IDS, attention_mask=MASK, **more).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["full", "lora", "prompt_tuning"])
def test_logits_are_those_of_transformers(family: str, method: str, tiny_of: Folder) -> None:
    made: Any = parts.make("method", method)
    model = made.attach(load_headed(base_of(tiny_of(family)), TEXT, [], 0), 0)
    it = language(model)
    assert it.chunked
    written = written_for(it)
    outputs = it.forward(IDS, MASK, written, training=False)
    assert isinstance(outputs, Unprojected)
    length = IDS.shape[1] if written is None else written.shape[1]
    expected = logits_of(model, written)[:, -length:]
    torch.testing.assert_close(outputs.logits().detach(), expected, atol=1e-5, rtol=1e-5)


def test_a_bias_of_the_logits_is_kept(tiny_of: Folder) -> None:
    model: Any = load_headed(base_of(tiny_of("bart")), TEXT, [], 0)
    model.final_logits_bias += torch.arange(model.config.vocab_size).float()
    it = language(model)
    assert it.chunked
    outputs = it.forward(IDS, MASK, WRITTEN, training=False)
    assert isinstance(outputs, Unprojected)
    torch.testing.assert_close(outputs.logits().detach(), logits_of(model, WRITTEN))


def test_logits_that_are_changed_afterwards_are_the_models_own() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        "gemma2", vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.05,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    it = language(model)
    assert not it.chunked, "a soft cap follows the output matrix"
    outputs = it.forward(IDS, MASK, None, training=False)
    assert isinstance(outputs, torch.Tensor)
    torch.testing.assert_close(outputs.detach(), logits_of(model, None))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bare_body_is_tied(family: str, tiny_of: Folder) -> None:
    model: Any = load_headed(base_of(tiny_of(family)), TEXT, [], 0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    other: Any = load_headed(base_of(tiny_of(family)), TEXT, [], 1)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_body_without_output_matrix_is_refused(family: str, tmp_path: Path) -> None:
    folder = tiny(family, tmp_path / family, tie_word_embeddings=False)
    with pytest.raises(BaseModelError, match=r"holds no output matrix: 'lm_head.weight'.*tie"):
        load_headed(base_of(folder), TEXT, [], 0)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_an_untied_matrix_of_its_own_is_kept(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    folder = tiny(family, tmp_path / "body", tie_word_embeddings=False)
    kind: Any = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    with quiet():
        whole: Any = kind.from_pretrained(folder)
        whole.lm_head.weight = torch.nn.Parameter(torch.randn_like(whole.lm_head.weight))
        whole.save_pretrained(tmp_path / "whole")
        AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "whole")
    model: Any = load_headed(base_of(tmp_path / "whole"), TEXT, [], 0)
    torch.testing.assert_close(model.lm_head.weight, whole.lm_head.weight)
    assert language(model).chunked
