"""An engine of one's own answers for every kind of head, and nothing in the package knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

import warmstart
from tiny import classifier, tiny
from warmstart.cli.main import main
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.errors import RecipeError, UnknownNameError
from warmstart.inference.engine import Engine, Runner, TokenBatch
from warmstart.inference.predictor import open_predictor
from warmstart.inference.torch import Torch
from warmstart.models.generation import TokenScores
from warmstart.part import Part

HERE = __name__
FEW: dict[str, Any] = {"evaluate.bootstrap": 100}
WORD_EMBEDDINGS = ("word_embeddings.weight", "shared.weight")
TEXTS = ["good film", "", "the bad book was not very great , but i liked it !"]


class BagOfWords(Engine):
    """Sums the first elements of the word embeddings, which `build` copies out of the model."""

    scale: float = 1.0

    def build(self, folder: Path, out: Path, task: Any, pad_id: int, rows: Any = None) -> Path:
        if not out.exists():
            tensors = load_file(folder / "model.safetensors")
            name = next(name for name in tensors if name.endswith(WORD_EMBEDDINGS))
            out.mkdir(parents=True)
            np.save(out / "words.npy", tensors[name])
        return out

    def open(self, folder: Path, task: Any, pad_id: int) -> Runner:
        if task.head.generates:
            raise RecipeError("engine BagOfWords writes no texts; take --engine torch")
        return Words(np.load(folder / "words.npy") * self.scale, task)


class Words(Runner):
    batch_tokens = 16

    def __init__(self, words: np.ndarray, task: Any) -> None:
        self.words, self.task = words, task

    def run(self, batch: TokenBatch) -> np.ndarray:
        assert batch.ids.dtype == batch.lengths.dtype == np.int64
        assert batch.ids.size <= self.batch_tokens or len(batch.ids) == 1
        states = self.words[batch.ids] * batch.mask[..., None]
        states = states if self.task.head.gives_vectors else states[..., :3]
        return states if self.task.head.per_token else states.sum(1)


class Echo(Engine):
    """Writes the prompt once more, and believes every token with one half."""

    def open(self, folder: Path, task: Any, pad_id: int) -> Runner:
        return Mouth()


class Mouth(Runner):
    def generate(self, prompts: TokenizedDataset) -> tuple[list[list[int]], np.ndarray]:
        ids = [prompts.row(i).tolist() for i in range(len(prompts))]
        return ids, np.full(len(ids), 0.5)

    def log_probs(self, dataset: TokenizedDataset) -> TokenScores:
        assert dataset.answers is not None
        tokens = dataset.answers.lengths
        return TokenScores(tokens * np.log(2), tokens * 0.5, np.zeros_like(tokens), tokens)


def test_it_builds_once_opens_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, path = classifier("bert", tmp_path / "m"), f"{HERE}.BagOfWords"
    answers = warmstart.predict(folder, TEXTS, engine=path)
    predictor = open_predictor(folder)
    ids = [predictor.tokenizer(text)["input_ids"] for text in TEXTS]
    words = np.load(folder / "engines" / path / "words.npy")
    logits = np.stack([words[row, :3].sum(0) for row in ids])
    assert [a.value for a in answers] == [predictor.labels[i] for i in logits.argmax(1)]
    (folder / "model.safetensors").unlink()
    sharp = warmstart.predict(folder, TEXTS, engine={"name": path, "scale": 9.0})
    assert all(a.confidence < b.confidence for a, b in zip(answers, sharp, strict=True))
    assert main(["predict", str(folder), TEXTS[0], "--engine", path, "--engine.scale", "9"]) == 0
    assert sharp[0].value in capsys.readouterr().out


def test_it_scores_labelled_rows(tmp_path: Path):
    folder = classifier("bert", tmp_path / "m")
    data = {"text": ["good film", "bad book"] * 4, "label": ["yes", "no"] * 4}
    table = pa.table(data)
    metrics = warmstart.evaluate(folder, table, engine=BagOfWords(), **FEW)
    answers = warmstart.predict(folder, data["text"], engine=BagOfWords())
    right = [a.value == label for a, label in zip(answers, data["label"], strict=True)]
    assert metrics["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_it_labels_every_token(tmp_path: Path):
    from transformers import AutoConfig, AutoModelForTokenClassification

    folder = tiny("bert", tmp_path / "m")
    labels = dict(enumerate(["O", "B-X", "I-X"]))
    AutoModelForTokenClassification.from_config(
        AutoConfig.from_pretrained(folder, id2label=labels)
    ).save_pretrained(folder)
    predictor = open_predictor(folder, BagOfWords())
    outputs, examples = predictor.outputs(predictor.table([["good", "film"], ["the"]]))
    words = np.load(folder / "engines" / BagOfWords.part_name() / "words.npy")
    np.testing.assert_array_equal(outputs, words[examples.store.ids, :3])
    assert len(predictor.predict([["good", "film"]])) == 1


def test_it_makes_vectors_to_search_by(tmp_path: Path):
    folder = tiny("bert", tmp_path / "m")
    note = {"task": {"name": "embedding", "pooling": "mean"}, "head": "vector"}
    (folder / "warmstart.json").write_text(json.dumps(note), encoding="utf-8")
    texts = ["good film", "bad book", "the song"]
    made = warmstart.retrieval.index(folder, texts, out=tmp_path / "i", engine=BagOfWords())
    predictor = open_predictor(folder, BagOfWords())
    ids = [predictor.tokenizer(text)["input_ids"] for text in texts]
    words = np.load(folder / "engines" / BagOfWords.part_name() / "words.npy")
    vectors = np.stack([words[row].sum(0) for row in ids])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors, vectors, atol=1e-6)


def test_it_writes_texts(tmp_path: Path):
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    folder = tiny("t5", tmp_path / "m")
    AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    (answer,) = warmstart.predict(folder, ["good film"], engine=f"{HERE}.Echo")
    assert answer.value == "good film" and answer.confidence == 0.5
    data = {"source": ["good film", "bad book"], "target": ["good film", "the book"]}
    metrics = warmstart.evaluate(folder, pa.table(data), engine=Echo(), **FEW)
    assert metrics["loss"] == pytest.approx(np.log(2))
    assert metrics["exact_match"]["value"] == pytest.approx(0.5)
    with pytest.raises(RecipeError, match="writes no texts"):
        warmstart.predict(folder, ["good film"], engine=BagOfWords())


def test_what_is_no_engine_is_answered_in_one_line(tmp_path: Path):
    folder = classifier("bert", tmp_path / "m")
    with pytest.raises(UnknownNameError, match=r"no engine 'torc'\. Did you mean 'torch'"):
        warmstart.predict(folder, TEXTS, engine="torc")
    keys: dict[str, Any] = {"engine.devise": "cpu"}
    with pytest.raises(RecipeError, match="engine torch has no setting 'devise'.*'device'"):
        warmstart.predict(folder, TEXTS, **keys)
    with pytest.raises(RecipeError, match=r"engine.device = tpu: give one of auto, cpu, cuda"):
        warmstart.evaluate(folder, [{"text": "a", "label": "no"}], **{"engine.device": "tpu"})
    with pytest.raises(RecipeError, match="no class that derives from warmstart's Engine"):
        warmstart.predict(folder, TEXTS, engine=f"{HERE}.Words")
    recipe: Part = warmstart.Recipe().method
    with pytest.raises(RecipeError, match="engine: full is a method, not a engine"):
        warmstart.predict(folder, TEXTS, engine=recipe)
    with pytest.raises(RecipeError, match="unknown key 'engine'"):
        warmstart.plan([{"text": "a", "label": "no"}], engine="torch")


def test_the_torch_engine_takes_its_settings(tmp_path: Path):
    folder = classifier("bert", tmp_path / "m")
    exact = warmstart.predict(folder, TEXTS)
    assert warmstart.predict(folder, TEXTS, engine=Torch(device="cpu")) == exact
    keys: dict[str, Any] = {"engine.precision": "bf16", "engine.device": "cpu"}
    near = warmstart.predict(folder, TEXTS, **keys)
    assert near != exact
    assert [a.confidence for a in near] == pytest.approx([a.confidence for a in exact], abs=0.02)
