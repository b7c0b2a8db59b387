"""Every architecture pretrained from nothing by its own objective, and loaded by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretraining import ARCHITECTURES, documents
from warmstart import api

CLASSES = {
    "albert": "AlbertForPreTraining", "bart": "BartForConditionalGeneration",
    "bert": "BertForMaskedLM", "distilbert": "DistilBertForMaskedLM",
    "electra": "ElectraForPreTraining", "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM",
    "pegasus": "PegasusForConditionalGeneration", "roberta": "RobertaForMaskedLM",
    "t5": "T5ForConditionalGeneration", "xlnet": "XLNetLMHeadModel",
}  # fmt: skip
TINY: dict[str, Any] = {
    "vocabulary_size": 300, "layers": 2, "hidden_size": 16, "heads": 2, "task.max_length": 32,
    "train.max_steps": 3, "train.batch_tokens": 256, "task.duplicates": "keep",
    "train.device": "cpu",
}  # fmt: skip


def pretrained(folder: Path, architecture: str, **keys: Any) -> Any:
    return api.pretrain(
        documents(60), architecture=architecture, out=str(folder / "run"), **{**TINY, **keys}
    )


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))


def check(run: Any, name: str) -> Any:
    """The saved folder has the class that the objective trained, with every weight of it."""
    import transformers

    config = json.loads((run.model / "config.json").read_text())
    assert config["architectures"] == [name]
    model, info = getattr(transformers, name).from_pretrained(run.model, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.model)
    ids = tokenizer("The film liked every book.", return_tensors="pt")["input_ids"]
    more = {"decoder_input_ids": ids} if config.get("is_encoder_decoder") else {}
    with torch.no_grad():
        outputs = model(input_ids=ids, **more)
    assert all(torch.isfinite(t).all() for t in outputs.values() if isinstance(t, torch.Tensor))
    proof = json.loads((run.path / "proof.json").read_text())
    assert run.status == "done" and name in json.dumps(proof)
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_folder_loads_in_transformers(architecture: str, tmp_path: Path) -> None:
    run = pretrained(tmp_path, architecture)
    check(run, CLASSES[architecture])
    if architecture == "electra":
        from transformers import ElectraForMaskedLM

        _, info = ElectraForMaskedLM.from_pretrained(
            run.path / "generator", output_loading_info=True
        )
        assert not info["missing_keys"] and not info["unexpected_keys"]


@pytest.mark.parametrize(("objective", "name"), [("nsp", "BertForPreTraining"),
                                                 ("sop", "BertForPreTraining")])  # fmt: skip
def test_pairs_are_saved_with_their_head(objective: str, name: str, tmp_path: Path) -> None:
    check(pretrained(tmp_path, "bert", objective=objective), name)


def test_a_student_of_a_run(tmp_path: Path) -> None:
    """A BERT pretrained here teaches a DistilBERT of half its layers, with its tokenizer."""
    teacher = pretrained(tmp_path / "teacher", "bert", layers=4)
    student = pretrained(
        tmp_path / "student", "distilbert", tokenizer=str(teacher.model),
        objective={"name": "distill", "teacher": str(teacher.path), "init": "teacher_layers"},
    )  # fmt: skip
    check(student, "DistilBertForMaskedLM")
