"""Answers in every form that files have, found in their context or dropped with the reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.tasks.extractive_qa import answers as reading
from warmstart.tasks.extractive_qa.task import ExtractiveQA

CONTEXT = "The Normans came in 1066. In 1066 they won."
Row = dict[str, Any]


def own(*rows: Row) -> tuple[pa.Table, list[tuple[int, str]]]:
    """The rows in the task's own form, and what was dropped."""
    task, lost = ExtractiveQA(), list[tuple[int, str]]()
    raw = read([{"question": "?", "context": CONTEXT, **row} for row in rows], ledger=Ledger())
    table = map_roles(raw, task.roles, {}, task.required or (), task.nested)
    return task.rows(table, lambda row, reason: lost.append((row, reason))), lost


def answers(row: Row) -> Any:
    table, lost = own(row)
    return json.loads(table["answers"][0].as_py()) if len(table) else lost[0][1]


RIGHT = [{"text": "1066", "start": 20}]
FORMS: dict[str, Row] = {
    "struct of lists": {"answers": {"text": ["1066"], "answer_start": [20]}},
    "list of structs": {"answers": [{"text": "1066", "answer_start": 20}]},
    "struct of one": {"answers": {"text": "1066", "answer_start": 20}},
    "JSON in a cell": {"answers": '{"text": ["1066"], "answer_start": [20]}'},
    "two columns": {"answer_text": "1066", "answer_start": 20},
    "two columns of strings": {"answer_text": "1066", "answer_start": "20"},
    "two columns of lists": {"answer_text": ["1066"], "answer_start": [20]},
    "two columns of JSON": {"answer_text": '["1066"]', "answer_start": "[20]"},
    "texts, and a column of places": {"answers": ["1066"], "answer_start": [20]},
    "possible": {"answers": [{"text": "1066", "answer_start": 20}], "is_impossible": False},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    assert answers(FORMS[form]) == RIGHT


NONE: dict[str, Row] = {
    "empty lists": {"answers": {"text": [], "answer_start": []}},
    "empty list": {"answers": []},
    "empty text": {"answer_text": "", "answer_start": -1},
    "impossible": {"answer_text": "1066", "answer_start": 20, "is_impossible": True},
    "impossible, in words": {"answer_text": None, "is_impossible": "True"},
}


@pytest.mark.parametrize("form", NONE)
def test_questions_without_answer(form: str) -> None:
    assert answers(NONE[form]) == []


def test_a_number_is_a_text_too() -> None:
    assert answers({"answer_text": 1066, "answer_start": 20}) == RIGHT


def test_a_wrong_place_is_mended_where_there_is_one_other() -> None:
    wrong: Row = {"answer_text": "Normans", "answer_start": 7}
    assert answers(wrong) == [{"text": "Normans", "start": 4, "was": 7}]
    assert answers({"answer_text": "1066", "answer_start": 7}) == reading.ELSEWHERE
    assert answers({"answer_text": "1067", "answer_start": 7}) == reading.NOWHERE


def test_without_a_place_the_first_is_taken() -> None:
    assert answers({"answer_text": "Normans"}) == [{"text": "Normans", "start": 4}]
    assert answers({"answer_text": "1066"}) == [{"text": "1066", "start": 20, "was": None}]


def test_one_good_answer_is_enough() -> None:
    both = {"text": ["nobody", "1066"], "answer_start": [0, 29]}
    assert answers({"answers": both}) == [{"text": "1066", "start": 29}]


def test_rows_that_cannot_be_used_are_dropped_with_the_reason() -> None:
    found, lost = own(
        {"answers": {"text": ["1066", "1066"], "answer_start": [20]}},
        {"answers": {"text": ["won"], "answer_start": [39]}},
        {"answers": None},
    )
    assert lost == [(0, reading.UNEQUAL), (2, reading.ABSENT)]
    assert found["_line"].to_pylist() == [2]


def test_what_is_worth_telling() -> None:
    table, _ = own(
        {"answer_text": "Normans", "answer_start": 7},
        {"answer_text": "won", "answer_start": 39},
        {"answer_text": "1066", "answer_start": None},
    )
    assert reading.mended(table["answers"]) == (1, 1)
    said = " ".join(ExtractiveQA().data_notes(table))
    assert "1 answer not at the answer_start given" in said
    assert "1 answer without an answer_start" in said


@pytest.mark.parametrize("start", ["x", -3, 7, float("inf")])
def test_a_position_that_is_none_is_wrong(start: object) -> None:
    assert reading.mended(own({"answer_text": "Normans", "answer_start": start})[0]["answers"])[0]
    assert own({"answer_text": "1066", "answer_start": start})[1] == [(0, reading.ELSEWHERE)]


@pytest.mark.parametrize("start", [None, "", float("nan"), "4", 4.0])
def test_a_position_may_be_absent_or_written_in_any_way(start: object) -> None:
    found, lost = own({"answer_text": "Normans", "answer_start": start})
    assert reading.mended(found["answers"]) == (0, 0) and not lost


def test_rows_to_be_asked_have_no_answers() -> None:
    table, lost = own({}, {})
    assert "answers" not in table.column_names
    assert not lost


def test_answers_as_pandas_and_datasets_write_them_to_csv() -> None:
    places = {"text": ["1066"], "answer_start": [20]}
    arrays = {name: np.array(values) for name, values in places.items()}
    for cell in (str(places), str(arrays), str([{"text": "1066", "answer_start": 20}])):
        assert answers({"answers": cell}) == RIGHT
    assert answers({"answer_text": "['1066']", "answer_start": "[20]"}) == RIGHT
