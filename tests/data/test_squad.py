"""SQuAD's nested JSON, as it is published and as it should not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.settings import Reading
from warmstart.errors import DataError

FIRST: dict[str, Any] = {
    "id": "q1",
    "question": "When?",
    "answers": [{"text": "1066", "answer_start": 3}, {"text": "in 1066", "answer_start": 0}],
}
SECOND: dict[str, Any] = {
    "id": "q2",
    "question": "Why?",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "1066", "answer_start": 3}],
}


def squad(*questions: Any, **more: Any) -> dict[str, Any]:
    paragraph = {"context": "in 1066.", "qas": list(questions)}
    return {"version": "v2.0", "data": [{"title": "Normans", "paragraphs": [paragraph]}], **more}


def write(path: Path, content: Any, indent: int | None = None) -> Path:
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
    return path


def rows(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    table = read(path, ledger=Ledger(), how=Reading(limit=limit))
    return table.drop_columns(["_file"]).to_pylist()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("first", ["version", "data"])
def test_questions_of_both_versions(tmp_path: Path, indent: int | None, first: str) -> None:
    content = squad(FIRST, SECOND)
    content = {first: content.pop(first), **content}
    found = rows(write(tmp_path / "train.json", content, indent))
    same = {"title": "Normans", "context": "in 1066."}
    one = {"text": ["1066", "in 1066"], "answer_start": [3, 0]}
    assert found[0] == {
        **same, "question": "When?", "id": "q1", "answers": one, "is_impossible": None, "_line": 1
    }  # fmt: skip
    none: dict[str, list[Any]] = {"text": [], "answer_start": []}
    assert found[1] == {
        **same, "question": "Why?", "id": "q2", "answers": none, "is_impossible": True, "_line": 2
    }  # fmt: skip


def test_questions_without_answers_are_to_be_asked(tmp_path: Path) -> None:
    found = rows(write(tmp_path / "test.json", squad({"question": "When?"})))
    assert found == [
        {"title": "Normans", "context": "in 1066.", "question": "When?", "_line": 1}
    ]  # fmt: skip


def test_flat_rows_under_data(tmp_path: Path) -> None:
    flat = {"question": "When?", "context": "in 1066.", "answers": {"text": [], "answer_start": []}}
    found = rows(write(tmp_path / "a.json", {"data": [flat, flat]}), limit=1)
    assert found == [{**flat, "_line": 1}]


def test_json_lines_stay_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "data?", "context": "data"}\n' * 2)
    assert [row["_line"] for row in rows(path)] == [1, 2]


WRONG = {
    "data[0].paragraphs[0].qas[1] has no text 'question'": squad(FIRST, {"id": "q2"}),
    "data[0].paragraphs[0].qas[0].answers is no list": squad({**FIRST, "answers": {"text": "a"}}),
    "data[0].paragraphs[0].qas[0].answers[0] has no text 'text'": squad({**FIRST, "answers": [1]}),
    "qas[0].answers[0] has no whole number as 'answer_start'": squad(
        {**FIRST, "answers": [{"text": "1066"}]}
    ),
    "data[0].paragraphs[0] has no text 'context'": {"data": [{"paragraphs": [{"qas": []}]}]},
    "data[0] has no list 'paragraphs'": {"data": [{"paragraphs": 3}]},
    "data[1] has neither 'paragraphs' nor a 'question'": {"data": [*squad(FIRST)["data"], 1]},
}


@pytest.mark.parametrize("said", WRONG)
def test_errors_name_the_place(tmp_path: Path, said: str) -> None:
    path = write(tmp_path / "bad.json", WRONG[said])
    with pytest.raises(DataError) as error:
        rows(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)
    assert "answer_start" in str(error.value)


def test_broken_json_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(squad(FIRST), indent=1)[:-9])
    with pytest.raises(DataError, match=r"bad\.json:\d+: not valid JSON"):
        rows(path)


def test_no_question_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        rows(write(tmp_path / "bad.json", squad()))
