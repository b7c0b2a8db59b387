"""Lists and objects in cells of text, however they were printed; nothing is run, glued or lost."""

from __future__ import annotations

import json
import time
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from warmstart.data.cells import parse_cell

VALUES: list[Any] = [
    [],
    ["a"],
    ["a", "b, c", "it's", 'a "b"', "ü\n"],
    [["a", 1], ["b", 2]],
    [0, 1, -2],
    [0.5, 1.0],
    [None, "a"],
    {"text": ["Bath"], "answer_start": [14]},
    {"en": "a 'b'", "de": None},
]


@pytest.mark.parametrize("value", VALUES)
def test_json_and_python_are_read_back(value: Any) -> None:
    assert parse_cell(json.dumps(value)) == value
    assert parse_cell(f" {value} ") == value
    frame = pd.DataFrame({"cell": [value, value]})
    written = pd.read_csv(StringIO(frame.to_csv(index=False)))
    assert [parse_cell(cell) for cell in written["cell"]] == [value, value]


@pytest.mark.parametrize(
    "items", [["a", "b c", "it's"], ["a"], [1, 0, 1], [1.0, 0.0], [[1, 2], [3, 4]]]
)
def test_arrays_are_read_back(items: list[Any]) -> None:
    array = np.array(items)
    assert parse_cell(str(array)) == items
    assert parse_cell(repr(array)) == items
    assert parse_cell(str({"text": np.array(items, object)})) == {"text": items}
    assert parse_cell(str(list(array.ravel()))) == array.ravel().tolist()


def test_tuples_and_sets_keep_their_order() -> None:
    assert parse_cell("('b', 'a')") == ["b", "a"] == parse_cell("{'b', 'a'}")
    assert parse_cell("()") == [] == parse_cell("set()")
    assert parse_cell("frozenset({'a'})") == ["a"]


@pytest.mark.parametrize(
    "text",
    ["", "a", "(a)", "('a')", "[laughs] well", "[sic]", "{name}", "(see 3)", "a [1]",
     "['a' ... 'b']", "[1] [2]", "[print('x')]", "[x for x in ()]", "{**{}}",
     "[" * 3000 + "]" * 3000],
)  # fmt: skip
def test_what_is_no_list_stays_a_text(text: str) -> None:
    assert parse_cell(text) is text


def test_values_that_are_no_text_stay() -> None:
    for value in (None, 3, ["a"], {"a": 1}):
        assert parse_cell(value) is value


@pytest.mark.parametrize("piece", ["'a' ", "1 ", "(\n", "'", "[", "a ", "-"])
def test_the_time_grows_with_the_length(piece: str) -> None:
    def seconds(n: int) -> float:
        best = 9.0
        for _ in range(3):
            begun = time.process_time()
            parse_cell("[" + piece * n + "]")
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(40_000) <= 10 * max(seconds(10_000), 0.02)  # 16 if it were quadratic
