from __future__ import annotations

import json

import pytest

from warmstart.errors import DataError


def jsonl(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def test_strings_and_nested_values(put, rows) -> None:
    first = {"text": "a\nb", "label": "x", "tokens": ["a", "b"], "meta": {"k": 1}}
    found = rows(put("d.jsonl", jsonl(first) + "\n" + jsonl({"text": "ü😀", "label": "y"})))
    assert {k: found.rows[0][k] for k in first} == first
    assert found.rows[1]["text"] == "ü😀" and found.rows[1]["tokens"] is None
    assert [row["_line"] for row in found.rows] == [1, 3]


def test_kinds_that_differ_become_text(put, rows) -> None:
    late = [{"text": "t", "label": 1, "n": 1}] * 4_000
    content = jsonl({"label": True}, {"label": "no"}, {"label": 3}, {"label": 2**70}, *late)
    found = rows(put("d.jsonl", content + jsonl({"label": "end", "n": 0.5}))).rows
    assert [r["label"] for r in found[:5]] == ["true", "no", "3", str(2**70), "1"]
    assert found[-1]["label"] == "end" and found[-1]["n"] == 0.5


def test_an_array_of_objects(put, rows) -> None:
    text = json.dumps([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}], indent=1)
    found = rows(put("d.json", text)).rows
    assert [(r["text"], r["_line"]) for r in found] == [("a", 2), ("b", 6)]


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("d.jsonl", '{"text": "a"}\n{"text": \n', "d.jsonl:2", "not valid JSON"),
        ("d.jsonl", '{"text": "a"}\n["a", "x"]\n', "d.jsonl:2", "not a JSON object"),
        ("d.jsonl", '{"text": "a\0"}\n', "d.jsonl:1", "NUL byte"),
        ("d.jsonl", '{"text": "\\ud83d"}\n', "d.jsonl:1", "lone surrogate"),
        ("d.jsonl", '{"a": ' + "[" * 100_000 + "\n", "d.jsonl:1", "nested too deeply"),
        ("d.jsonl", '{"text": "' + "y" * 1_000_001 + '"}\n', "d.jsonl:1", "1,000,000 characters"),
        ("d.jsonl", '{"n": ' + "9" * 5_000 + "}\n", "d.jsonl:1", "not valid JSON"),
        ("d.json", '[{"text": "a"},\n{"text" "b"}]', "d.json:2", "not valid JSON"),
        ("d.json", '[{"t": 1}]\n[{"t": 2}]\n', "d.json:2", "text after the end of the array: '[{"),
        ("d.json", '[{"t": 1}]\n{"t": 2}\n', "d.json:2", "put all rows into one array"),
        ("d.json", '[{"t": 1}\n]xxx', "d.json:2", "text after the end of the array: 'xxx'"),
        ("d.json", '[] {"t": 1}', "d.json:1", "text after the end of the array"),
        ("d.json", '[{"t": 1}\n{"t": 2}]', "d.json:2", "Expecting ',' or ']'"),
        ("d.json", '[{"t": 1}', "d.json:1", "Expecting ',' or ']'"),
        ("d.json", '[{"t": 1},\n]', "d.json:2", "not valid JSON"),
        ("d.json", "[1]", "d.json:1", "not a JSON object"),
        ("d.json", "[]", "d.json", "no rows"),
        ("d.jsonl", "\n \n", "d.jsonl", "is empty"),
    ],
)
def test_bad_files(put, rows, name: str, content: str, where: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        rows(put(name, content))
    message = str(caught.value)
    assert where in message and what in message and "\n" not in message


def test_more_columns_than_a_table_of_texts_has(put, rows) -> None:
    names = [f"k{i}" for i in range(6_000)]
    wide = f"{','.join(names)}\n{','.join('x' for _ in names)}\n"
    for name, content in (
        ("d.csv", wide),
        ("d.jsonl", jsonl(dict.fromkeys(names, "x"))),
        ("e.jsonl", jsonl(*({name: 1} for name in names))),
    ):
        with pytest.raises(DataError, match=r"has [\d,]+ columns, and at most 5,000 are read"):
            rows(put(name, content))


@pytest.mark.parametrize(
    ("content", "texts", "lost"),
    [
        ('[{"t": "a"},\n{"t" "b"},\n{"t": "c"}]', ["a", "c"], [2]),
        ('[{"t": "a"}, {"t": "b", }, {"t": "c"}]', ["a", "c"], [1]),
        ('[{"t": "a"}, {"t": {"x": [1, }]}, "]"}, {"t": "c"}]', None, []),  # where it ends is open
        ('[\n {\n  "t": "a"\n },\n {\n  "t": "b\n },\n {\n  "t": "c"\n }\n]', ["a", "c"], [6]),
        ('[{"t": "a"},\n7,\n{"t": "c"}]', ["a", "c"], [2]),
        ('[{"t": "a"}\n{"t": "b"}]', ["a", "b"], []),
        ('[{"t": "a"},\n{"t": "b', ["a"], [2]),
        ('[{"t": "a"},\n{"t": "b"},', ["a", "b"], []),
        ('[{"t": "a"},\n{"t": "b, {"t": "c"}, {"t": "d"}]', None, []),
    ],
)
def test_broken_elements_of_an_array_are_left_out(put, rows, content, texts, lost) -> None:
    path = put("d.json", content)
    if texts is None:
        with pytest.raises(DataError, match="not valid JSON"):
            rows(path, bad_rows="skip")
        return
    found = rows(path, bad_rows="skip")
    assert [row["t"] for row in found.rows] == texts
    assert [line for _, line, _, _ in found.ledger.bad_rows] == lost
    assert found.ledger.dropped == len(lost)
