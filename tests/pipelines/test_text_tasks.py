"""Tasks that write, from a file to a folder that plain transformers writes the same texts with."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import warmstart
from learning import base_of
from tiny import tiny
from warmstart.errors import BaseModelError, DataError, ProofError, RecipeError
from warmstart.models.hf_calls import quiet
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.verify import prove_task
from warmstart.run import Run
from warmstart.tasks.base import Examples

Folder = Callable[[str], Path]
WORDS = "film movie song book service food red green blue order".split()
TEXTS = ["film song book", "red", "order the blue film and the food again", "book movie"]
KEYS: dict[str, Any] = {
    "train.learning_rate": 1e-2, "train.epochs": 6, "train.keep": "last", "task.max_new_tokens": 6,
    "evaluate.bootstrap": 100, "train.precision": "fp32",
}  # fmt: skip


def write(path: Path, rows: int) -> Path:
    """Texts, and their first two words in turn."""
    rng = random.Random(0)
    drawn = [rng.sample(WORDS, k=rng.randint(2, 6)) for _ in range(rows)]
    lines = [json.dumps({"input": " ".join(w), "output": f"{w[1]} {w[0]}"}) for w in drawn]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def t5(tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("t5")
    return warmstart.tune(
        write(folder / "d.jsonl", 80), task="text2text", base=str(tiny_of("t5")),
        out=str(folder / "run"), **KEYS, **{"task.num_beams": 2, "task.prefix": "one "},
    )  # fmt: skip


@pytest.fixture(scope="module")
def gpt2(tiny_of: Folder, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("gpt2")
    return warmstart.tune(
        write(folder / "d.jsonl", 50), task="text2text", base=str(tiny_of("gpt2")), method="lora",
        out=str(folder / "run"), **KEYS,
    )  # fmt: skip


def test_the_loss_falls_and_the_proof_stands(t5: Run, gpt2: Run) -> None:
    for run in (t5, gpt2):
        history = run.facts["history"]
        assert history[-1]["validation_loss"] < history[0]["validation_loss"]
        assert run.proof["passed"] and run.proof["same_text"] == run.proof["rows"]
        assert run.proof["max_difference"] < 1e-5
        assert run.metrics["main"] == "exact_match" and run.metrics["loss"] > 0


def test_plain_transformers_writes_the_same_texts(t5: Run) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    with quiet():
        model: Any = AutoModelForSeq2SeqLM.from_pretrained(t5.model)
        tokenizer: Any = AutoTokenizer.from_pretrained(t5.model)
    asked = model.generation_config
    assert (asked.num_beams, asked.max_new_tokens, asked.do_sample) == (2, 6, False)
    named = tokenizer([f"one {text}" for text in TEXTS], return_tensors="pt", padding=True)
    with torch.no_grad():
        ids = model.generate(input_ids=named.input_ids, attention_mask=named.attention_mask)
    theirs = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    assert [one.value for one in t5.predict(TEXTS)] == theirs
    assert len(set(theirs)) > 1


def test_an_adapter_keeps_how_it_writes(gpt2: Run) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    with quiet():
        base = AutoModelForCausalLM.from_pretrained(gpt2.recipe.base)
        model: Any = PeftModel.from_pretrained(base, gpt2.model)
        tokenizer: Any = AutoTokenizer.from_pretrained(gpt2.model)
    settings = GenerationConfig.from_pretrained(gpt2.model)
    assert settings.max_new_tokens == 6
    theirs: list[str] = []
    for text in TEXTS:
        named = tokenizer(f"{text}\nAnswer:", return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad(), quiet():
            ids = model.generate(**named, generation_config=settings)[0]
        new = ids[named["input_ids"].shape[1] :]
        theirs.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    assert [one.value for one in gpt2.predict(TEXTS)] == theirs


def test_the_test_rows_are_kept_with_their_answers(t5: Run) -> None:
    table = pq.read_table(t5.path / "predictions.parquet")
    names = ["id", "file", "line", "source", "target", "prediction", "confidence", "score"]
    assert table.column_names == names
    line = (t5.path.parent / "d.jsonl").read_text().splitlines()[table["line"][0].as_py() - 1]
    assert json.loads(line)["input"] == table["source"][0].as_py()
    answers = t5.predict(table["source"].to_pylist())
    assert [one.value for one in answers] == table["prediction"].to_pylist()


def test_evaluate_gives_the_same_figures(t5: Run, tmp_path: Path) -> None:
    table = pq.read_table(t5.path / "predictions.parquet").select(["source", "target"])
    rows = "\n".join(json.dumps(row) for row in table.to_pylist())
    (tmp_path / "test.jsonl").write_text(rows, encoding="utf-8")
    found = warmstart.evaluate(t5.path, tmp_path / "test.jsonl", **{"evaluate.bootstrap": 100})
    for name in ("exact_match", "rougeL", "chrf"):
        assert found[name]["value"] == pytest.approx(t5.metrics[name]["value"])
    assert found["loss"] == pytest.approx(t5.metrics["loss"], rel=1e-5)


def test_what_is_wanted_is_asked_for_before_the_model_runs(
    t5: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only.csv").write_text("source\nfilm song\n", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr("warmstart.inference.predictor.Predictor.outputs", None)
        with pytest.raises(DataError, match=r"only\.csv has no column for target.*columns\.target"):
            warmstart.evaluate(t5.path, tmp_path / "only.csv")
    long = {"source": "film song", "target": "song film " * 90}
    (tmp_path / "long.jsonl").write_text(json.dumps(long), encoding="utf-8")
    found = warmstart.evaluate(t5.path, tmp_path / "long.jsonl")
    assert not any("more than" in note for note in found["notes"]), "what is wanted is judged whole"
    rows = [{"source": "film song", "references": ["song film", "a song"]}]
    (tmp_path / "several.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    assert warmstart.evaluate(t5.path, tmp_path / "several.jsonl")["rows"] == 1


def test_predictions_are_added_to_the_users_columns(t5: Run, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("number,input\n1,film song\n2,red book\n", encoding="utf-8")
    warmstart.predict(t5.path, tmp_path / "new.csv", out=tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "number,input,prediction,confidence" and lines[1].startswith("1,film song,")


def test_the_report_says_how_it_was_counted(t5: Run) -> None:
    page = t5.report.read_text(encoding="utf-8")
    assert "exact match" in page.lower() and "nrefs:1|case:mixed" in page
    assert "<dt>wanted</dt>" in page and "model says <b" not in page


def harmed(run: Run, out: Path, file: str, harm: Callable[[Path], None]) -> None:
    """The proof of a copy of the run's model, one file of which was changed."""
    from warmstart.inference.predictor import open_predictor

    folder = Path(shutil.copytree(run.model, out / "model"))
    table = pq.read_table(run.path / "predictions.parquet")
    predictor = open_predictor(run.model)
    own = predictor.table(table["source"].to_pylist())
    own = own.append_column("target", table["target"])
    outputs, examples = predictor.outputs(own)
    tokenizer = load_tokenizer(base_of(folder))
    examples = Examples(own, examples.store, [], tokenizer)
    assert prove_task(folder, predictor.task, examples, outputs, 0)["passed"]
    harm(folder / file)
    prove_task(folder, predictor.task, examples, outputs, 0)


def test_altered_weights_cannot_pass(t5: Run, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        tensors = load_file(path)
        name = next(name for name in tensors if "decoder" in name and name.endswith("wo.weight"))
        tensors[name] = tensors[name] + 0.05
        save_file(tensors, path, {"format": "pt"})

    with pytest.raises(ProofError, match="does not write as the trained one"):
        harmed(t5, tmp_path, "model.safetensors", harm)


def test_another_way_of_writing_cannot_pass(t5: Run, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "max_new_tokens": 1}))

    with pytest.raises(ProofError, match="texts the same"):
        harmed(t5, tmp_path, "generation_config.json", harm)


def test_an_encoder_cannot_write(tiny_of: Folder, tmp_path: Path) -> None:
    data, out = write(tmp_path / "d.jsonl", 40), tmp_path / "run"
    with pytest.raises(RecipeError, match="writes texts, and 'bert' is an encoder.*take a --base"):
        warmstart.tune(data, task="summarization", base=str(tiny_of("bert")), out=str(out))
    assert not out.exists()


def test_a_body_without_output_matrix_is_refused_before_training(tmp_path: Path) -> None:
    base = tiny("llama", tmp_path / "body", tie_word_embeddings=False)
    with pytest.raises(BaseModelError, match="holds no output matrix"):
        warmstart.tune(
            write(tmp_path / "d.jsonl", 40), task="text2text", base=str(base),
            out=str(tmp_path / "run"),
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
