"""Every architecture pretrained from nothing by its own objective, and loaded by transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pretraining import ARCHITECTURES, documents
from warmstart import api
from warmstart.objectives.distill import Distill

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
        check_detector(run.metrics, run.facts["history"][-1])


def check_detector(metrics: Any, last: Any) -> None:
    """Its loss beside the entropy of the share of replaced tokens, and the generator's."""
    assert metrics["titles"]["loss"] == "loss of the detection in nats a token"
    assert "perplexity" not in metrics["titles"] and "validation_perplexity" not in last
    (chance,) = metrics["baselines"]
    assert chance["name"] == "base_rate" and 0 < chance["loss"]["value"] < math.log(2)
    gap = metrics["loss"]["value"] - chance["loss"]["value"]
    assert chance["model_minus_baseline"]["difference"] == pytest.approx(gap, abs=1e-6)
    (section,) = (s for s in metrics["sections"] if s["title"] == "Detector and generator")
    values = [float(value.rstrip("%")) for _, value in section["rows"]]
    rate = 1 - values[3] / 100
    right = chance["token_accuracy"]["value"]  # of who says "original" wherever he is asked
    assert right == pytest.approx(max(rate, 1 - rate), abs=1e-3)
    assert values[0] == pytest.approx(metrics["loss"]["value"], abs=1e-4)
    assert values[1] == pytest.approx(chance["loss"]["value"], abs=1e-4)
    assert values[1] == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate),
                                      abs=1e-3)  # fmt: skip
    assert 1 < values[4] < 2 * math.log(400)  # of the generator, which has hardly learned


@pytest.mark.parametrize(("objective", "name"), [("nsp", "BertForPreTraining"),
                                                 ("sop", "BertForPreTraining")])  # fmt: skip
def test_pairs_are_saved_with_their_head(objective: str, name: str, tmp_path: Path) -> None:
    check(pretrained(tmp_path, "bert", objective=objective), name)


def test_a_student_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BERT pretrained here teaches a DistilBERT of half its layers, with its tokenizer; a dry run
    reads no weight of it."""
    teacher = pretrained(tmp_path / "teacher", "bert", layers=4)
    keys: dict[str, Any] = {"tokenizer": str(teacher.model), "objective": {
        "name": "distill", "teacher": str(teacher.path), "init": "teacher_layers"}}  # fmt: skip
    with monkeypatch.context() as closed:
        closed.setattr(Distill, "_model", lambda self: pytest.fail("the teacher was loaded"))
        plan = api.plan(documents(60), verb="pretrain", architecture="distilbert", **TINY, **keys)
    assert plan["base"]["name"].startswith("distilbert")
    check(pretrained(tmp_path / "student", "distilbert", **keys), "DistilBertForMaskedLM")
