"""Labelling files: every column, row and character stays; memory does not grow with the file."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import warmstart
from learning import write_messages
from tiny import tiny
from warmstart.cli.main import main
from warmstart.errors import RecipeError
from warmstart.types import Prediction

ROWS = [
    {"text": f"the {word} film {i}", "label": label}
    for i in range(10)
    for word, label in (("good", "pos"), ("bad", "neg"))
]
ODD = [
    ["1", 'said "good"; then, left', "x", ""],
    ["2", "two\nlines\r\nhere", "", "ü ☂"],
    ["3", "", " padded ", "=1+1"],
    ["4", "good " * 200, "tab\there", "'"],
]
HEADER = ["id", "text", "note", "other, column"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    base = tiny("bert", folder / "base")
    keys: dict[str, Any] = {"train.epochs": 1, "evaluate.bootstrap": 100}
    return warmstart.tune(ROWS, base=base, out=folder / "run", **keys).path


def write(path: Path, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([HEADER, *ODD])
    return path


def read(path: Path, delimiter: str = ",") -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter=delimiter))


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_csv_in_csv_out_changes_nothing(model: Path, tmp_path: Path, ending: str, delimiter: str):
    data = write(tmp_path / "in.csv")
    out = tmp_path / f"out{ending}"
    notes: list[str] = []
    assert warmstart.predict(model, data, out=out, notes=notes) == len(ODD)
    header, *rows = read(out, delimiter)
    assert header == [*HEADER, "prediction", "confidence"]
    assert [row[:4] for row in rows] == ODD
    answers = warmstart.predict(model, [row[1] for row in ODD])
    assert [row[4] for row in rows] == [a.value for a in answers]
    assert [float(row[5]) for row in rows] == pytest.approx(
        [a.confidence for a in answers], abs=1e-6
    )
    assert f"{data}:6" in notes[0] and "no text" in notes[0]
    assert f"{data}:7" in notes[1] and "64 tokens" in notes[1]
    assert sorted(os.listdir(tmp_path)) == sorted(["in.csv", out.name])


def test_evaluate_says_what_was_cut(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "in.csv"
    data.write_text("text,label\ngood film,pos\n" + "bad " * 200 + ",neg\n", encoding="utf-8")
    said = f"1 text has more than 64 tokens: only the beginning was read (first: {data}:3)"
    found = warmstart.evaluate(model, data)
    assert said in found["notes"]
    assert main(["evaluate", str(model), str(data)]) == 0
    assert f"note: {said}\n" in capsys.readouterr().err


def test_jsonl_and_parquet_out(model: Path, tmp_path: Path):
    data = write(tmp_path / "in.csv")
    warmstart.predict(model, data, out=tmp_path / "o.jsonl")
    warmstart.predict(model, data, out=tmp_path / "o.parquet")
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]
    assert lines == pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [list(line.values())[:4] for line in lines] == ODD


def test_columns_of_every_kind_survive(model: Path, tmp_path: Path):
    rows = [{"text": "good", "n": 1.5, "tags": ["a", "b"]}, {"text": "bad", "n": None, "tags": []}]
    warmstart.predict(model, rows, out=tmp_path / "o.parquet")
    assert pq.read_table(tmp_path / "o.parquet").select(["text", "n", "tags"]).to_pylist() == rows
    warmstart.predict(model, rows, out=tmp_path / "o.csv")
    assert [row[1:3] for row in read(tmp_path / "o.csv")[1:]] == [["1.5", '["a", "b"]'], ["", "[]"]]


def test_labelling_twice_keeps_the_first_labels(model: Path, tmp_path: Path):
    warmstart.predict(model, write(tmp_path / "in.csv"), out=tmp_path / "one.csv")
    warmstart.predict(model, tmp_path / "one.csv", out=tmp_path / "two.csv")
    added = ["prediction", "confidence", "prediction_2", "confidence_2"]
    assert read(tmp_path / "two.csv")[0] == HEADER + added


def test_another_column_may_be_the_text(model: Path, tmp_path: Path):
    keys: dict[str, Any] = {"data.columns.text": "note", "data.limit": 2}
    assert warmstart.predict(model, write(tmp_path / "in.csv"), out=tmp_path / "o.csv", **keys) == 2
    with pytest.raises(RecipeError, match="unknown key 'data.colums"):
        warmstart.predict(model, ["x"], **{"data.colums.text": "x"})


def test_rows_are_not_held_in_memory(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With `out` no Prediction is ever made, and no more than a chunk of texts is a string."""
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1

    monkeypatch.setattr(Prediction, "__init__", count)
    monkeypatch.setattr("warmstart.inference.predictor.CHUNK", 8)
    table = pa.table({"text": ["good", "bad film"] * 20, "id": list(range(40))})
    assert warmstart.predict(model, table, out=tmp_path / "o.parquet") == 40
    assert made == 0
    assert pq.read_table(tmp_path / "o.parquet")["id"].to_pylist() == list(range(40))


def test_the_lines_of_a_plain_file_are_texts(model: Path, tmp_path: Path):
    path = tmp_path / "new.txt"
    path.write_text('good film, "really"\n\n bad book\n', encoding="utf-8")
    notes: list[str] = []
    assert len(warmstart.predict(model, path, notes=notes)) == 3, "as many as the file has lines"
    assert notes[0] == f"1 text has no text: a label there means nothing (first: {path}:2)"
    assert len(notes) == 2 and "unknown to the model's tokenizer" in notes[1]
    warmstart.predict(model, path, out=tmp_path / "out.csv")
    rows = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "text,prediction,confidence"
    assert rows[1].startswith('"good film, ""really""",')
    assert rows[2].startswith(",") and rows[3].startswith(" bad book,") and len(rows) == 4
    path.write_text("id\ttext\n7\tgood film\n", encoding="utf-8")
    (answer,) = warmstart.predict(model, path)
    assert answer.id == "0"


def test_texts_are_answered_as_they_come(model: Path):
    from warmstart.api import answers

    drawn = 0

    def texts():
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield f"good film {number}"

    text, answer = next(answers(model, texts()))
    assert (text, answer.id) == ("good film 0", "0")
    assert drawn < 100


def test_ids_go_on_over_the_chunks(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("warmstart.pipelines.reading.rows.AT_ONCE", 3)
    found = warmstart.predict(model, ["good"] * 8)
    assert [a.id for a in found] == [str(i) for i in range(8)]


def test_a_missing_text_is_an_empty_one(model: Path, tmp_path: Path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "good film"}\n{"text": null}\n{"other": "x"}\n', encoding="utf-8")
    notes: list[str] = []
    found = warmstart.predict(model, path, notes=notes)
    empty = warmstart.predict(model, [""])[0].scores
    assert [one.scores for one in found[1:]] == [pytest.approx(empty)] * 2
    assert notes == [
        f"2 texts have no text: a label there means nothing (first: {path}:2)",
        f"{path} (UTF-8): text = text; not read: other",
    ]
    assert warmstart.predict(model, path, out=tmp_path / "out.parquet") == 3
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["text"].to_pylist() == ["good film", None, None], "columns stay as they were"


def test_rows_of_one_group_count_as_one_when_a_model_is_evaluated(model: Path) -> None:
    rows = [row | {"author": f"author {i // 5}"} for i, row in enumerate(ROWS)]
    assert warmstart.evaluate(model, rows, **{"data.group": "author"})["units"] == 4
    assert "units" not in warmstart.evaluate(model, ROWS)


def test_tokens_that_the_model_does_not_know_are_said(tmp_path: Path) -> None:
    """As `tune` says them: their share, and such a word."""
    base, data = tiny("bert", tmp_path / "base"), write_messages(tmp_path / "m.csv", 30)
    keys = {"train.max_steps": 1, "evaluate.baselines": False, "evaluate.bootstrap": 100}
    run = warmstart.tune(data, base=str(base), out=str(tmp_path / "run"), **keys)
    notes: list[str] = []
    warmstart.predict(run.model, ["漢字かな a film", "a film"], notes=notes)
    assert len(notes) == 1
    assert "% of the tokens of these texts are unknown to the model's tokenizer" in notes[0]
    assert "“漢字かな”" in notes[0]
    (tmp_path / "n.csv").write_text("text,label\n漢字 a film,good\nbad,bad\n", encoding="utf-8")
    said = warmstart.evaluate(run.model, tmp_path / "n.csv", **{"evaluate.bootstrap": 100})["notes"]
    assert any("unknown to the model's tokenizer (such as “漢字”)" in note for note in said), said
