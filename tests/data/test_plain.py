"""Plain text files: a text on each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmstart.data.readers.text import has_header, is_plain, lines_of
from warmstart.errors import DataError


def test_each_line_is_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes('\ufeffwhere, is "it"\r\n\r\n  späte Post \n'.encode())
    assert is_plain(path)
    table = lines_of(path)
    assert table["text"].to_pylist() == ['where, is "it"', "späte Post"]
    assert table["_line"].to_pylist() == [1, 3]
    assert table["_file"].to_pylist() == [str(path)] * 2
    assert len(lines_of(path, limit=1)) == 1
    path.write_text(" \n\n")
    with pytest.raises(DataError, match="has no lines of text"):
        lines_of(path)


def test_every_line_can_be_kept_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one \r\n\r\n  two\n \n")
    table = lines_of(path, every=True)
    assert table["text"].to_pylist() == ["one ", "", "  two", " "]
    assert table["_line"].to_pylist() == [1, 2, 3, 4]
    assert lines_of(path, limit=2, every=True)["text"].to_pylist() == ["one ", ""]
    path.write_text(" \n\n")
    with pytest.raises(DataError, match="has no lines of text"):
        lines_of(path, every=True)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("text\nmore\n", True),
        ("text\nmore, and more\n", True),
        ('"Text";label\n"more; of it";x\n', True),
        ("id\ttext\n1\tmore\n", True),
        ("some text here\nmore\n", False),
        ("Message, please\nmore\n", False),
        ("Message, please\nmore, or\nless\n", False),
        ("Message, please\n", False),
        ("Message,please\nmore\nless\n", False),
        ("text, label\nmore, x\nless, y\n", True),
        ("text,label\nmore,x\nless,y\nless, or more,y\n", True),
        ("text,label\n", True),
    ],
)
def test_a_header_makes_it_a_table(content: str, found: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    assert has_header(path, {"text", "message"}) is found
