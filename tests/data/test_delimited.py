from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from warmstart.data.readers.csv import detect_delimiter
from warmstart.errors import DataError

TEXTS = [("a, b; c", "x"), ('he said "no"', "y"), ("two\nlines\r\nthree", "x"), ("é ü 😀", "y")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_round_trip_with_every_delimiter(tmp_path: Path, rows, delimiter: str) -> None:
    path = tmp_path / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([("text", "label"), *TEXTS])
    found = rows(path).rows
    assert [(row["text"], row["label"]) for row in found] == TEXTS
    assert [row["_line"] for row in found] == [2, 3, 4, 7]
    assert {row["_file"] for row in found} == {str(path)}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text;score\nabc, def;1,5\ng, h;2,5\n", ";"),
        ("text,label\na;b;c,x\nd;e;f,y\n", ","),
        ("text|label\na,b|x\nc,d|y\n", "|"),
        ("id\ttext, as written\tlabel\n1\ta,b\tx\n2\tc\ty\n", "\t"),
        ('text;label\n"a;b\n,c,d,e";x\n', ";"),
        ("text, with note;label\na;x\nb,c,d;y\n", ";"),
    ],
)
def test_delimiter_is_detected(put, content: str, expected: str) -> None:
    assert detect_delimiter(put("d.csv", content), "utf-8") == expected


def test_one_column_keeps_its_commas(put, rows) -> None:
    found = rows(put("d.csv", 'text\nhello, world\n"a ""b"""\n')).rows
    assert [row["text"] for row in found] == ["hello, world", 'a "b"']


def test_blank_lines_count_as_lines_but_not_as_rows(put, rows) -> None:
    found = rows(put("d.csv", "\ntext,label\n\na,x\n\n\nb,y\n")).rows
    assert [row["_line"] for row in found] == [4, 7]


def test_old_mac_and_windows_line_ends(put, rows) -> None:
    assert [r["_line"] for r in rows(put("a.csv", "text,label\ra,x\rb,y\r")).rows] == [2, 3]
    assert [r["label"] for r in rows(put("b.csv", "text,label\r\na,x\r\nb,y")).rows] == ["x", "y"]


def test_space_after_delimiters(put, rows) -> None:
    found = rows(put("d.csv", 'text, label\n"a, b", x\nc, y\n'))
    assert [(r["text"], r["label"]) for r in found.rows] == [("a, b", "x"), ("c", "y")]


def test_unquoted_tabs_with_stray_quotes(put, rows) -> None:
    found = rows(put("d.tsv", 'text\tlabel\n"Hello she said\tx\nplain\ty\n'))
    assert found.rows[0]["text"] == '"Hello she said'
    assert "quotes" in [note["kind"] for note in found.ledger.notes]


def test_gzip(put, rows) -> None:
    path = put("d.csv.gz", gzip.compress(b"text,label\na,x\n"))
    assert rows(path).rows[0]["text"] == "a"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged gzip"):
        rows(path)


def test_columns_with_our_names_are_renamed(put, rows) -> None:
    row = rows(put("d.csv", "text,_line,_file\na,b,c\n")).rows[0]
    assert (row["_line"], row["source_line"], row["source_file"]) == (2, "b", "c")


def test_limit_stops_reading(put, rows) -> None:
    found = rows(put("d.csv", "text,label\na,x\nb,y\nc,z,ragged\n"), limit=2)
    assert len(found.rows) == 2 and "limit" in [note["kind"] for note in found.ledger.notes]


def test_named_delimiter_wins(put, rows) -> None:
    assert rows(put("d.csv", "a;b,c\n1;2,3\n"), delimiter=",").table.column_names[:2] == [
        "a;b",
        "c",
    ]


def test_field_size_limit_of_the_csv_module_is_restored(put, rows) -> None:
    before = csv.field_size_limit()
    rows(put("d.csv", "text,label\na,x\n"))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("text,label\na,x\nb\n", "d.csv:3", ["1 fields", "header has 2", "--data.delimiter"]),
        ("text,label\na,x\nb,c,y\n", "d.csv:3", ["3 fields", "quote fields", "','"]),
        ('text,label\n"a,",x\n"open,y\nb,z\n', "d.csv:3", ["quote opened here", "close it"]),
        ('text,label\na,x\n"ok\n","open\nb,z\n', "d.csv:4", ["quote opened here"]),
        ('text,label\n"a"b,x\n"c,d",y\n', "d.csv:2", ["quote", '("")']),
        ("text,label,text\na,x,b\n", "d.csv:1", ["two columns", "'text'", "rename"]),
        ("text,label\na,x\nb\0c,y\n", "d.csv:3", ["NUL byte", "delete"]),
        ("text,label\n", "d.csv", ["header but no rows"]),
        ("\n\n", "d.csv", ["is empty"]),
        ("", "d.csv", ["is empty"]),
    ],
)
def test_bad_files(put, rows, content: str, where: str, what: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        rows(put("d.csv", content))
    message = str(caught.value)
    assert where in message and "\n" not in message
    assert all(words in message for words in what), message


def test_huge_cell(put, rows) -> None:
    path = put("d.csv", "text,body\na,x\nb," + "y" * 10_000_000 + "\nc,z\n")
    with pytest.raises(DataError, match=r"d\.csv:3: .*'body'.*1,000,000 characters; split"):
        rows(path)


def test_quote_that_swallows_the_rest_of_a_big_file(put, rows) -> None:
    path = put("d.csv", 'text,label\na,x\n"open,y\n' + "some words,z\n" * 100_000)
    with pytest.raises(DataError, match=r"d\.csv:3: .*'text'.*close the quote"):
        rows(path)


def test_every_cell_of_real_data(shared_data: Path, rows) -> None:
    path = shared_data / "scicite" / "train.csv"
    with path.open(newline="", encoding="utf-8") as stream:
        expected = list(csv.DictReader(stream))
    found = rows(path).rows
    assert [r["text"] for r in found] == [r["text"] for r in expected]
    physical = path.read_text(encoding="utf-8").split("\n")
    for row in found[:500]:
        start = row["text"].splitlines()[0][:20].replace('"', '""')
        assert start in physical[row["_line"] - 1]
