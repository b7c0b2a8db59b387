from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest

from warmstart.data.columns import map_roles
from warmstart.data.tables import with_file
from warmstart.errors import DataError, UnknownNameError

ROLES = {"text": ("text", "sentence", "body"), "label": ("label", "class", "y")}


def mapped(columns: dict[str, Any], required=("text", "label"), nested=frozenset(), **named: str):
    table = with_file(pa.table(columns), "d.csv")
    return map_roles(table, ROLES, named, set(required), nested)


def test_names_in_any_case_best_first() -> None:
    table = mapped({"Y": ["1"], "Body": ["b"], "TEXT": ["a"], "Class": ["x"]})
    assert table.column_names == ["text", "label", "_file", "_line"]
    assert table.to_pylist()[0] | {"_file": ""} == {
        "text": "a",
        "label": "x",
        "_file": "",
        "_line": 1,
    }


def test_named_columns_win() -> None:
    table = mapped({"text": ["a"], "body": ["b"], "label": ["x"]}, text="body", label="text")
    assert (table["text"][0].as_py(), table["label"][0].as_py()) == ("b", "a")


def test_a_column_that_is_taken_is_not_advised() -> None:
    said = r"no column for label; .*'Label' would be the label, and is taken as text already"
    with pytest.raises(DataError, match=said) as caught:
        mapped({"words": ["a"], "Label": ["x"]}, text="Label")
    assert "Did you mean" not in str(caught.value)


def test_optional_roles_may_be_absent() -> None:
    assert mapped({"text": ["a"]}, required=["text"]).column_names == ["text", "_file", "_line"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([3, None]), ["3", None]),
        (pa.array([3.0, 0.5, float("nan"), None]), ["3", "0.5", None, None]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([None, None]), [None, None]),
        (pa.array([datetime.date(2024, 1, 2)]), ["2024-01-02"]),
    ],
)
def test_values_become_strings(values: pa.Array, expected: list[str | None]) -> None:
    table = mapped({"text": ["t"] * len(values), "label": values})
    assert table["label"].type == pa.string() and table["label"].to_pylist() == expected


def test_class_label_gives_names() -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features)
    table = with_file(data.with_format("arrow")[:], "d")
    table = table.replace_schema_metadata(features.arrow_schema.metadata)
    assert map_roles(table, ROLES, {}, {"label"})["label"].to_pylist() == ["pos", "neg", None]


def test_nested_roles_stay_nested() -> None:
    columns = {"text": [["a", "b"]], "label": ["x"]}
    assert mapped(columns, nested=frozenset({"text"}))["text"].to_pylist() == [["a", "b"]]
    with pytest.raises(DataError, match=r"'text' holds list.*cannot be the text.*--data.columns"):
        mapped(columns)


def test_missing_column_lists_names_and_flag() -> None:
    with pytest.raises(DataError) as caught:
        mapped({"text": ["a"], "labell": ["x"], "id": ["1"]})
    message = str(caught.value)
    assert "d.csv has no column for label" in message and "text, labell, id" in message
    assert "Did you mean 'labell'" in message and "--data.columns.label NAME" in message


def test_two_unknown_columns_are_not_guessed() -> None:
    with pytest.raises(DataError, match=r"text and label.*--data.columns.text .*columns.label"):
        mapped({"foo": ["good film"], "bar": ["pos"]})


def test_named_column_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"no column 'bdy'.*Did you mean 'body'"):
        mapped({"body": ["a"], "label": ["x"]}, text="bdy")


def test_unknown_role() -> None:
    with pytest.raises(UnknownNameError, match=r"no role 'txt'.*Did you mean 'text'"):
        mapped({"body": ["a"], "label": ["x"]}, txt="body")


def test_huge_cell() -> None:
    with pytest.raises(DataError, match=r"d\.csv:2: .*'body'.*1,000,000"):
        mapped({"body": ["a", "b" * 1_000_001], "label": ["x", "y"]})


def test_several_columns_are_one_text_with_a_new_line_between() -> None:
    columns = {"title": ["a", "", None], "body": ["b", "c", " "], "label": ["x"] * 3}
    table = mapped(columns, text="title, body")
    assert table["text"].to_pylist() == ["a\nb", "c", ""]
    assert (
        mapped({"title,body": ["d"], "label": ["x"]}, text="title,body")["text"][0].as_py() == "d"
    )
    with pytest.raises(DataError, match="d.csv has no column 'boby'. Did you mean 'body'"):
        mapped(columns, text="title,boby")


def test_usual_columns_may_be_several_too() -> None:
    roles = {"source": ("instruction,input", "input", "instruction"), "target": ("output",)}

    def of(**columns: str) -> Any:
        table = with_file(pa.table({name: [value] for name, value in columns.items()}), "d.csv")
        return (
            map_roles(table, roles, {}, set(roles)).drop_columns(["_file", "_line"]).to_pylist()[0]
        )

    assert of(Instruction="a", input="b", output="c") == {"source": "a\nb", "target": "c"}
    assert of(instruction="a", input="", output="c") == {"source": "a", "target": "c"}
    assert of(instruction="a", output="c") == {"source": "a", "target": "c"}
