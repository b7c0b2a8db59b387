"""Bases that are only a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import tiny_tokenizer
from warmstart.errors import BaseModelError
from warmstart.models.architectures import FAMILIES, layers_of
from warmstart.models.base import resolve
from warmstart.models.from_config import new_base
from warmstart.models.heads import CLASSES


def words(family: str, folder: Path) -> Path:
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_can_be_begun_from_nothing(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel

    folder = new_base(
        family, words(family, tmp_path / "words"), tmp_path / "base",
        hidden_size=32, layers=2, heads=2, positions=40, dropout=0.0,
    )  # fmt: skip
    base = resolve(str(folder))
    config: Any = AutoConfig.from_pretrained(base.path)
    assert (config.model_type, config.hidden_size) == (family, 32)
    both = 2 if config.is_encoder_decoder else 1
    assert len(layers_of(AutoModel.from_pretrained(base.path))) == 2 * both


@pytest.mark.parametrize("family", ["gpt2", "bert", "roberta", "bart", "t5"])
def test_texts_are_cut_to_the_places_that_the_model_has(family: str, tmp_path: Path) -> None:
    """Whatever the tokenizer says; T5's positions are relative."""
    from warmstart.models.loading import load_headed, load_tokenizer

    folder = words(family, tmp_path / "words")
    out = new_base(family, folder, tmp_path / "base", hidden_size=32, layers=1, heads=2,
                   positions=24)  # fmt: skip
    base = resolve(str(out))
    tokenizer: Any = load_tokenizer(base)
    longest = tokenizer.model_max_length
    assert longest > 24 if family == "t5" else longest == 24
    if family in ("gpt2", "bert", "roberta"):
        ids = torch.full((1, 24), 5)
        load_headed(base, CLASSES, ["a", "b"], 0)(input_ids=ids)
        with pytest.raises((IndexError, RuntimeError)):
            load_headed(base, CLASSES, ["a", "b"], 0)(input_ids=torch.full((1, 25), 5))


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    sums: list[str] = []
    folder = words("t5", tmp_path / "words")
    for number, seed in enumerate([0, 0, 1]):
        out = new_base("t5", folder, tmp_path / str(number), hidden_size=32, layers=1, seed=seed)
        sums.append(resolve(str(out)).sha256)
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("family", ["t5", "bart", "pegasus", "gpt2", "llama"])
def test_it_writes_with_the_special_tokens_of_its_tokenizer(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from warmstart.models.hf_calls import quiet

    folder = words(family, tmp_path / "words")
    out = new_base(family, folder, tmp_path / "base", hidden_size=32, layers=1, heads=2)
    decodes = family in ("gpt2", "llama")
    kind: Any = AutoModelForCausalLM if decodes else AutoModelForSeq2SeqLM
    model, tokenizer = kind.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with quiet():
        ids = model.generate(**tokenizer("good film", return_tensors="pt"), max_new_tokens=3)[0]
    if not decodes:
        assert ids[0] == (2 if family == "bart" else 0)
    if family in ("bart", "pegasus"):
        assert ids[-1] == tokenizer.eos_token_id, "forced at the end"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "bort"}, "there is no family 'bort'. Did you mean"),
        ({"tokenizer": "nowhere"}, "warmstart tokenizer train"),
        ({"heads": 5}, "no 'bart' of these sizes can be made"),
        ({"out": "."}, "exists already"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "family": "bart", "tokenizer": words("bart", tmp_path / "words"), "hidden_size": 32,
        "out": tmp_path / "out", "heads": 2, **given,
    }  # fmt: skip
    with pytest.raises(BaseModelError, match=said):
        new_base(**asked)
    assert not (tmp_path / "out").exists()
