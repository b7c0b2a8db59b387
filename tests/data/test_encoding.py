from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from warmstart.data.readers.files import detect
from warmstart.errors import DataError, RecipeError

GERMAN = "text,label\nGrüße aus Köln – „schön“,a\nein Café,b\n"
RUSSIAN = (
    "text,label\n" + "Это обычное русское предложение о погоде,а\nВторая строка текста,б\n" * 5
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (GERMAN.encode(), "utf-8"),
        (codecs.BOM_UTF8 + GERMAN.encode(), "utf-8"),
        (codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"), "utf-16-le"),
        (codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"), "utf-16-be"),
        (codecs.BOM_UTF32_LE + GERMAN.encode("utf-32-le"), "utf-32-le"),
        (GERMAN.encode("cp1252"), "cp1252"),
        (b"text,label\nplain,a\nplain,b\n", "utf-8"),
    ],
)
def test_detected_and_read(put, rows, data: bytes, expected: str) -> None:
    path = put("d.csv", data)
    found = rows(path)
    assert detect(path) == expected
    assert found.table.column_names[:2] == ["text", "label"]
    assert {"kind": "encoding", "encoding": expected}.items() <= found.ledger.notes[0].items()
    if expected != "utf-8" or data.startswith(codecs.BOM_UTF8):
        assert found.rows[0]["text"] == "Grüße aus Köln – „schön“"


def test_other_alphabets_are_not_taken_for_western(put, rows) -> None:
    assert rows(put("d.csv", RUSSIAN.encode("cp1251"))).rows[0]["text"].startswith("Это обычное")


def test_damaged_utf8_is_not_taken_for_cp1252(put) -> None:
    data = "text,label\nGrüße,a\nCafé,b\n".encode() + b"bro\xffken,a\n"
    with pytest.raises(DataError, match=r"d\.csv:4: .*not utf-8.*--data\.encoding"):
        detect(put("d.csv", data))


def test_named_encoding_is_checked(put) -> None:
    path = put("d.csv", GERMAN.encode("cp1252"))
    assert detect(path, "latin-1") == "latin-1"
    with pytest.raises(DataError, match=r"d\.csv:2: bytes that are not utf-8"):
        detect(path, "utf-8")
    for name in ("utf-9", "rot13", "base64", "undefined"):
        with pytest.raises(RecipeError, match=f"no encoding '{name}'"):
            detect(path, name)


def test_line_of_a_bad_byte_far_into_the_file(put) -> None:
    body = b"some words,a\r\n" * 200_000
    with pytest.raises(DataError, match=r"d\.csv:200002:"):
        detect(put("d.csv", b"text,label\r\n" + body + b"\xff\xfe\xc3(\n"), "utf-8")


def test_utf16_without_a_mark(put, rows) -> None:
    path: Path = put("d.csv", "text,label\nhello,a\nworld,b\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="--data.encoding utf-16-le"):
        rows(path)
    assert rows(path, encoding="utf-16-le").rows[0]["text"] == "hello"
