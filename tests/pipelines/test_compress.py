"""`compress`: every product is a run that answers, beside its source, and says what it lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from safetensors.numpy import load_file

import warmstart
from warmstart import api
from warmstart.cli.main import main
from warmstart.cli.verbs import LOST
from warmstart.errors import DataError, RecipeError, RunError
from warmstart.pipelines.compress.result import Compressed, outcome, sentence
from warmstart.pipelines.measuring.trials import Measured, agreement
from warmstart.training.progress import Interrupted
from warmstart.types import Listener

QUICK = {"train.epochs": 1, "evaluate.bootstrap": 100, "evaluate.baselines": False}
ALL = {**QUICK, "compress.allowed_loss": 100}
"""Whatever is lost is allowed."""
NOUNS, COLOURS = "film book song service food".split(), "red blue green".split()


def rows(folder: Path, header: str, line: Callable[[str, str, bool], str]) -> Path:
    """A file with a row for every noun, colour and opinion, four times."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line(noun, colour, good) for _ in range(4) for noun in NOUNS for colour in COLOURS
             for good in (True, False)]  # fmt: skip
    (folder / "rows.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "rows.csv"


def opinion(noun: str, colour: str, good: bool) -> str:
    return f"the {'good' if good else 'bad'} {noun} is {colour},{'yes' if good else 'no'}"


pytestmark = pytest.mark.usefixtures("tried_here")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_of: Callable[[str], Path]) -> Any:
    """A tiny classifier's run."""
    folder = tmp_path_factory.mktemp("compress")
    data = rows(folder, "text,label", opinion)
    keys = {"base": str(tiny_of("bert")), **QUICK, "train.epochs": 3}
    return warmstart.tune(data, out=folder / "run", **keys)


@pytest.fixture(scope="module")
def made(source: Any) -> Any:
    """Three products of it."""
    return warmstart.compress(source, method="distill,prune,vocabulary", **ALL)


def test_products_are_runs_beside_their_source(source: Any, made: Any) -> None:
    assert made.path == source.path.with_name("run-compressed")
    assert [*made.runs] == ["distill", "prune", "vocabulary"] and not made.lost
    summary, page = made.summary, made.report.read_text(encoding="utf-8")
    for row in summary["products"]:
        run = made.runs[row["name"]]
        assert run.status == "done" and run.proof["passed"] and run.report.is_file()
        assert row["size_mb"] < summary["source"]["size_mb"]
        assert row["parameters"] < summary["source"]["parameters"]
        assert row["score"] >= 0 and row["milliseconds"] > 0 and row["rows_per_second"] > 0
        assert row["difference"]["low"] <= row["difference"]["difference"]
        assert run.predict(["the good film"])[0].value in ("yes", "no")
        assert run.recipe.base == run.facts["base"]["name"] == str(source.model)
        assert f'href="{row["name"]}/report.html"' in page and row["sentence"][:20] in page
    assert not (made.path / ".starts").exists()
    assert page.count("<circle") == 8 and "Trade-off" in page
    config = json.loads((made.runs["distill"].model / "config.json").read_text())
    assert config["num_hidden_layers"] == 1
    assert json.loads((made.runs["prune"].model / "config.json").read_text())[
        "intermediate_size"] == 32  # fmt: skip


def test_a_product_is_asked_as_any_run(made: Any, tmp_path: Path) -> None:
    run = made.runs["vocabulary"]
    metrics = warmstart.evaluate(run, rows(tmp_path, "text,label", opinion), **{
        "evaluate.bootstrap": 100})  # fmt: skip
    assert metrics["rows"] == 120
    classify = warmstart.pipeline("text-classification", run)
    assert classify("the good film")[0].keys() == {"label", "score"}
    from transformers import pipeline

    answer = pipeline("text-classification", str(run.model))("the good film is red")
    assert answer[0]["label"] == run.predict("the good film is red")[0].value


def test_texts_of_the_kept_tokens_have_the_very_same_outputs(source: Any, made: Any) -> None:
    from warmstart.inference.predictor import open_predictor

    texts = ["the good film is red", "bad food", "the song is blue"]
    before, after = (open_predictor(run.path) for run in (source, made.runs["vocabulary"]))
    outputs = [own.outputs(own.table(texts))[0] for own in (before, after)]
    assert np.array_equal(*outputs)
    assert len(after.tokenizer) < len(before.tokenizer)
    row = next(row for row in made.summary["products"] if row["name"] == "vocabulary")
    assert row["same"] == 1.0 and row["gap"] == 0.0 and row["outcome"] == "not worse"
    assert "gives the same answers" in row["sentence"]


def test_each_value_of_a_setting_is_a_product(source: Any, tmp_path: Path) -> None:
    planned = api.plan_compression(
        source, method=["prune"], out=tmp_path / "out",
        **{"compress.weights": "0.25,0.5", "compress.recovery": "false"},
    )  # fmt: skip
    assert [row["name"] for row in planned["products"]] == ["prune-weights-0.25",
                                                            "prune-weights-0.5"]  # fmt: skip
    assert [row["steps"] for row in planned["products"]] == [0, 0]
    assert planned["products"][0]["notes"] == ["25 % of the layers' weights are 0"]
    assert not (tmp_path / "out").exists()


def test_zeros_stay_zero_while_the_rest_learns(source: Any, tmp_path: Path) -> None:
    made = warmstart.compress(source, method="prune", out=tmp_path / "out", **ALL,
                              **{"compress.weights": 0.5})  # fmt: skip
    before, after = (load_file(folder / "model.safetensors")
                     for folder in (source.model, made.runs["prune"].model))  # fmt: skip
    name = "bert.encoder.layer.0.output.dense.weight"
    assert (after[name] == 0).mean() == 0.5 and (before[name] != 0).all()
    assert not np.array_equal(after[name][after[name] != 0], before[name][after[name] != 0])


def test_command_line_says_what_was_lost(
    source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", str(source.path), "--method", "prune", "--compress.layers", "1",
             "--compress.recovery", "false", "--compress.allowed_loss", "0",
             "--evaluate.bootstrap", "100"]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert "layers 1 of 2 are left" in capsys.readouterr().out
    code = main([*words, "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    made = Compressed(tmp_path / "out")
    assert code == (LOST if made.lost else 0) and made.runs["prune"].status == "done"
    row = made.summary["products"][0]
    assert row["sentence"] in text and row["outcome"] in text


def test_outcomes_are_those_of_the_interval() -> None:
    def seen(**values: Any) -> Measured:
        return Measured("torch", "fp32", score=0.8, same=0.9, gap=0.3, **values)

    worse = seen(difference={"worst": -0.08, "lost": 0.05})
    unclear = seen(difference={"worst": -0.03, "lost": 0.01})
    good = seen(difference={"worst": -0.01, "lost": -0.002})
    assert [outcome(m, 2.0) for m in (worse, unclear, good)] == ["worse", "unclear", "not worse"]
    assert outcome(Measured("torch", "fp32", failure="it ended"), 2.0) == "failed"
    assert sentence("prune", worse, 2.0, 100) == (
        "prune loses 5.0 points on 100 rows (95 %: at worst 8.0 lost): more than the 2 that are "
        "allowed, so it is not done."
    )
    assert "cannot be sure" in sentence("prune", unclear, 2.0, 100)


def test_agreement_of_labels_numbers_and_vectors() -> None:
    from warmstart.models.heads import HEADS

    assert agreement(HEADS["classes"], ["a", "b"], ["a", "c"]) == 0.5
    assert agreement(HEADS["value"], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0
    assert agreement(HEADS["value"], [1.0, 2.0, 4.0], [2.0, 4.0, 8.0]) == pytest.approx(1.0)
    assert agreement(HEADS["vector"], [[1, 0], [0, 2]], [[2, 0], [2, 0]]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("method", "keys", "message"),
    [
        ("", {}, "compress needs a method: --method distill, prune, quantize, vocabulary"),
        ("distil", {}, "no method of compress 'distil'.*Did you mean 'distill'"),
        ("distill", {"compress.layer": 1}, "unknown key 'compress.layer'.*Did you mean 'layers'"),
        ("distill", {"compress.heads": 0.5}, "unknown key 'compress.heads' of distill. prune has"),
        ("distill", {"compress.layers": 2}, "the model has 2 layers.*give 1 or fewer"),
        ("distill", {"method.rank": 4}, "'method' has no meaning for compress"),
        ("prune", {"compress.heads": 0.5}, "heads cannot be taken out of a 'bert'"),
        ("prune", {"compress.feed_forward": 0}, "nothing would be pruned"),
        ("prune", {"compress.weights": 2}, r"compress.weights = 2: give a number.*below 1"),
        ("distill", {"compress.base": "x", "compress.layers": 1}, "give one of the two"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    method: str, keys: Any, message: str, source: Any, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        warmstart.compress(source, method=method, out=tmp_path / "out", **keys)
    assert not (tmp_path / "out").exists()


def test_sources_that_cannot_be_compressed_say_what_can(
    source: Any, tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    with pytest.raises(RunError, match="exists already; choose another --out"):
        warmstart.compress(source, method="prune", out=source.path)
    with pytest.raises(RecipeError, match="name labelled rows: warmstart compress .* DATA"):
        warmstart.compress(source.model, method="prune", out=tmp_path / "out")
    read = pa.csv.read_csv(rows(tmp_path, "text,label", opinion))
    run = warmstart.tune(read, out=tmp_path / "python", base=str(tiny_of("bert")),
                         **QUICK)  # fmt: skip
    with pytest.raises(DataError, match="were given in Python.*warmstart compress .* DATA"):
        warmstart.compress(run, method="prune", out=tmp_path / "out")


def test_a_model_folder_is_compressed_with_data_beside_it(source: Any, tmp_path: Path) -> None:
    data = rows(tmp_path, "text,label", opinion)
    made = warmstart.compress(source.model, data, method="prune", out=tmp_path / "out", **ALL)
    assert made.runs["prune"].status == "done" and made.summary["rows"] > 5


def test_more_texts_are_learned_by_the_word_of_the_teacher(source: Any, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("the good service is green\nbad late order\n" * 5, encoding="utf-8")
    made = warmstart.compress(source, method="distill", out=tmp_path / "out", **ALL,
                              **{"compress.texts": str(more)})  # fmt: skip
    assert "10 more texts" in made.summary["products"][0]["notes"][-1]
    assert made.runs["distill"].facts["speed"]["rows"] > source.facts["rows"]["train"]


def test_another_base_is_a_student(source: Any, tmp_path: Path) -> None:
    from tiny import tiny

    small = tiny("distilbert", tmp_path / "small", n_layers=1, dim=16, hidden_dim=32)
    made = warmstart.compress(source, method="distill", out=tmp_path / "out", **ALL,
                              **{"compress.base": str(small)})  # fmt: skip
    run = made.runs["distill"]
    assert json.loads((run.model / "config.json").read_text())["model_type"] == "distilbert"
    assert run.facts["history"][-1].get("validation_hidden_loss") is None


TASKS: dict[str, tuple[str, str, Callable[[str, str, bool], str], dict[str, Any]]] = {
    "regression": ("bert", "text,score",
                   lambda n, c, g: f"the {'good' if g else 'bad'} {n} is {c},"
                   f"{(3 if g else 1) + len(c) / 10}", {}),
    "multilabel": ("roberta", "text,labels",
                   lambda n, c, g: f"the {'good' if g else 'bad'} {n} is {c},"
                   f"{c}|{'yes' if g else 'no'}", {}),
    "embedding": ("bert", "text,label", opinion, {}),
    "classification": ("llama", "text,label", opinion, {}),
    "pairs": ("gpt2", "sentence1,sentence2,label",
              lambda n, c, g: f"the {n},is {c if g else 'late'},{'yes' if g else 'no'}", {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_head_is_compressed(
    task: str, tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    family, header, line, keys = TASKS[task]
    data = rows(tmp_path, header, line)
    run = warmstart.tune(data, out=tmp_path / "run", task=task, base=str(tiny_of(family)), **QUICK,
                         **keys)  # fmt: skip
    made = warmstart.compress(run, method="distill,prune,vocabulary", **ALL)
    products = {row["name"]: row for row in made.summary["products"]}
    assert products.keys() == {"distill", "prune", "vocabulary"} and not made.lost
    assert products["vocabulary"]["gap"] == 0.0 and products["vocabulary"]["same"] >= 1 - 1e-6
    for own in made.runs.values():
        assert (
            own.proof["passed"] and own.predict(run.recipe and ["the good film"])
            if task != "pairs"
            else own.proof["passed"]
        )


@pytest.mark.slow
def test_tagging_and_spans_are_compressed(tmp_path: Path, tiny_of: Callable[[str], Path]) -> None:
    lines = [f"the O\n{noun} B-THING\nis O\n{colour} B-COLOUR\n" for _ in range(4)
             for noun in NOUNS for colour in COLOURS]  # fmt: skip
    (tmp_path / "rows.conll").write_text("\n".join(lines), encoding="utf-8")
    answers = [
        {"question": "what is it ?", "context": f"the {noun} is {colour}",
         "answers": {"text": [colour], "answer_start": [len(f"the {noun} is ")]}}
        for _ in range(4) for noun in NOUNS for colour in COLOURS
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    for task, file in (("tagging", "rows.conll"), ("extractive_qa", "rows.jsonl")):
        run = warmstart.tune(tmp_path / file, out=tmp_path / task, task=task,
                             base=str(tiny_of("bert")), **QUICK)  # fmt: skip
        made = warmstart.compress(run, method="distill,vocabulary", **ALL)
        kept = made.summary["products"][1]
        assert not made.lost and kept["same"] == 1.0 and kept["gap"] == 0.0


@pytest.mark.slow
def test_an_adapter_is_merged_first(source: Any, tmp_path: Path) -> None:
    data = rows(tmp_path, "text,label", opinion)
    run = warmstart.tune(
        data, out=tmp_path / "run", base=source.recipe.base, method="lora", **QUICK
    )
    made = warmstart.compress(run, method="distill,vocabulary", **ALL)
    assert (made.runs["distill"].model / "model.safetensors").is_file()
    assert made.summary["products"][1]["gap"] < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int8_full", "bf16"])
def test_forms_of_fewer_bits_are_products_too(source: Any, tmp_path: Path, precision: str) -> None:
    made = warmstart.compress(source, method="quantize", out=tmp_path / "out", **ALL,
                              **{"compress.precision": precision})  # fmt: skip
    row = made.summary["products"][0]
    assert row["precision"] == precision and not row["is_run"] and not made.runs
    assert row["same"] > 0.7 and not row["failure"]
    assert f"--engine.precision {precision}" in made.summary["next"][0][0]


def test_what_answers_no_labels_is_refused_by_name(
    tmp_path: Path, tiny_of: Callable[[str], Path]
) -> None:
    from tiny import writer

    folder = writer(tmp_path / "writer", "llama")
    (folder / "warmstart.json").write_text(
        json.dumps({"task": {"name": "prompts"}, "head": "text"}), encoding="utf-8"
    )
    with pytest.raises(RecipeError, match="was trained for prompts; tune a smaller base"):
        warmstart.compress(folder, "x.csv", method="distill")


class Stops(Listener):
    """Ends the second product before it begins; remembers what it was told."""

    def __init__(self, at: int) -> None:
        self.at, self.notes = at, list[str]()

    def begin_run(self, name: str, number: int, of: int) -> None:
        if number == self.at:
            raise Interrupted("stopped; go on")

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_an_interrupted_call_keeps_what_is_finished_and_goes_on(
    source: Any, tmp_path: Path
) -> None:
    keys = {**ALL, "method": "vocabulary,prune", "out": tmp_path / "out",
            "compress.recovery": False}  # fmt: skip
    with pytest.raises(Interrupted, match="stopped; nothing of it is kept: run the command again"):
        warmstart.compress(source, **keys, listeners=[Stops(1)])
    assert not (tmp_path / "out").exists()
    with pytest.raises(Interrupted, match="kept in .*: vocabulary; the same command with --out"):
        warmstart.compress(source, **keys, listeners=[Stops(2)])
    assert [place.name for place in (tmp_path / "out").iterdir()] == ["vocabulary"]
    before = (tmp_path / "out" / "vocabulary" / "run.json").read_bytes()
    with pytest.raises(RunError, match="made of another model or by other settings"):
        warmstart.compress(source, **keys, **{"compress.min_count": 2})
    for name in ("prune", ".starts"):  # as a call leaves them that is killed
        (tmp_path / "out" / name / "model").mkdir(parents=True)
    hears = Stops(0)
    made = warmstart.compress(source, **keys, listeners=[hears])
    assert "vocabulary is there already, and is kept" in hears.notes
    assert (made.path / "vocabulary" / "run.json").read_bytes() == before
    assert [*made.runs] == ["vocabulary", "prune"] and not made.lost
    rows = made.summary["products"]
    assert rows[0]["notes"][0].endswith("are left") and rows[0]["seconds"] > 0
    assert not (made.path / ".starts").exists()
    with pytest.raises(RunError, match="exists already; choose another --out"):
        warmstart.compress(source, **keys)


def test_what_is_unclear_is_not_called_done() -> None:
    from warmstart.reporting.compression import verdict

    source = {"size_mb": 10.0, "rows_per_second": 5.0}
    unclear = {"name": "prune", "outcome": "unclear", "done": True, "size_mb": 1.0,
               "rows_per_second": 9.0}  # fmt: skip
    good = {**unclear, "name": "quantize", "outcome": "not worse", "size_mb": 5.0}
    text = verdict({"source": source, "products": [unclear], "rows": 20})
    assert text == "Not sure on 20 rows: prune; name more labelled rows after the model."
    text = verdict({"source": source, "products": [unclear, good], "rows": 20})
    assert text.startswith("The smallest that is not worse is quantize, 50 % of the size; ")
