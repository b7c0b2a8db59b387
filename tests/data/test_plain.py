"""Plain text files: a text on each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from warmstart.data.plain import has_header, is_plain, lines_of
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


@pytest.mark.parametrize(
    ("first", "found"),
    [("text", True), ('"Text";label', True), ("id\ttext", True), ("some text here", False)],
)
def test_a_header_makes_it_a_table(first: str, found: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{first}\nmore\n")
    assert has_header(path, {"text", "message"}) is found
