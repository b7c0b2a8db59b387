"""The torch engine answers as transformers does, and knows what it cannot open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import classifier, tiny
from warmstart.errors import RunError
from warmstart.inference.predictor import open_predictor

TEXTS = ["good film", "", "the bad book was not very great , but i liked it !", "good " * 300]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
def test_a_plain_folder_answers_as_in_transformers(family: str, tmp_path: Path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier(family, tmp_path / "m")
    predictor = open_predictor(folder)
    found, _ = predictor.outputs(predictor.table(TEXTS[:1] + TEXTS[2:3]))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for row, text in enumerate([TEXTS[0], TEXTS[2]]):
        with torch.no_grad():
            wanted = model(**tokenizer(text, return_tensors="pt", truncation=True)).logits
        np.testing.assert_allclose(found[row], wanted[0].numpy(), atol=1e-5)
    answers = predictor.predict(TEXTS)
    assert predictor.labels == ["no", "maybe", "yes"]
    assert [a.value for a in answers] == [max(a.scores, key=lambda k: a.scores[k]) for a in answers]


def test_a_text_is_cut_to_what_the_positions_allow(tmp_path: Path):
    folder = classifier("roberta", tmp_path / "m")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "model_max_length": int(1e30)}))
    predictor = open_predictor(folder)
    assert predictor.task.max_length <= 66
    cut: list[tuple[int, int]] = []
    predictor.outputs(predictor.table(TEXTS), 0, lambda row, tokens: cut.append((row, tokens)))
    assert [row for row, _ in cut] == [3]


def test_an_empty_text_alone_has_an_answer_of_a_decoder_too(tmp_path: Path):
    predictor = open_predictor(classifier("gpt2", tmp_path / "m"))
    assert predictor.predict([""])[0].value in predictor.labels


def test_answers_count_on_from_where_they_begin(tmp_path: Path):
    predictor = open_predictor(classifier("bert", tmp_path / "m"))
    answers = predictor.answers(predictor.table(TEXTS), 7)
    assert [a.id for a in answers] == ["7", "8", "9", "10"]
    assert [a.value for a in answers] == [a.value for a in predictor.predict(TEXTS)]


def test_what_cannot_be_opened(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no model"):
        open_predictor(tmp_path / "empty")
    (tmp_path / "empty" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="no model yet; go on with it: warmstart tune --resume"):
        open_predictor(tmp_path / "empty")
    with pytest.raises(RunError, match=r"a model without a head \(BertModel\)"):
        open_predictor(tiny("bert", tmp_path / "body"))


@pytest.mark.parametrize(("task_type", "auto", "name"), [
    ("SEQ_CLS", "AutoModelForSequenceClassification", "classification"),
    ("TOKEN_CLS", "AutoModelForTokenClassification", "tagging"),
])  # fmt: skip
def test_an_adapter_that_peft_alone_has_saved_answers(
    task_type: str, auto: str, name: str, tmp_path: Path
):
    """The folder has two files: no config, no tokenizer and no note of ours."""
    import peft
    import transformers

    from warmstart.models.hf_calls import quiet

    tiny("bert", tmp_path / "base")
    folder = tmp_path / "adapter"
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        plain: Any = getattr(transformers, auto).from_pretrained(tmp_path / "base", num_labels=3)
        config = peft.LoraConfig(r=4, task_type=task_type, init_lora_weights=False,
                                 modules_to_save=["classifier", "pooler"])  # fmt: skip
        model: Any = peft.get_peft_model(plain, config).eval()
        model.save_pretrained(str(folder))
    for path in folder.iterdir():
        if path.name not in ("adapter_config.json", "adapter_model.safetensors"):
            path.unlink()
    predictor = open_predictor(folder)
    assert predictor.task.part_name() == name
    found, _ = predictor.outputs(predictor.table(TEXTS[:1]))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        wanted = model(**words(TEXTS[0], return_tensors="pt")).logits[0].numpy()
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-5)
    assert len(predictor.predict(TEXTS)) == len(TEXTS)
