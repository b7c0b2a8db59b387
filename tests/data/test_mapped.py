"""Rows in a file that has no name: the same rows, out of memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from warmstart.data import tables as mapping
from warmstart.data.tables import mapped


def rows() -> pa.Table:
    """Chunks whose dictionaries differ, and a missing text."""
    parts = [
        pa.table(
            {
                "text": [f"text {i}" if i else None for i in range(start, start + 50)],
                "_file": pa.array([f"{start}.csv"] * 50).dictionary_encode(),
                "_line": list(range(50)),
            }
        )
        for start in (0, 50, 100)
    ]
    return pa.concat_tables(parts)


def test_the_same_rows_and_no_file_is_left(tmp_path: Path) -> None:
    table = rows()
    found = mapped(table, tmp_path)
    assert found.schema == table.schema
    assert found.to_pylist() == table.to_pylist()
    assert found.slice(45, 10).to_pylist() == table.slice(45, 10).to_pylist()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(mapping.os.name != "posix", reason="files without a name")
def test_they_stand_in_no_memory_of_arrow(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()
    found = mapped(pa.table({"text": ["a text of some length"] * 200_000}), tmp_path)
    assert pa.total_allocated_bytes() - before < found.nbytes / 10


def test_no_rows(tmp_path: Path) -> None:
    assert mapped(rows().slice(0, 0), tmp_path).num_rows == 0


def test_where_nothing_can_be_written_they_stay(tmp_path: Path) -> None:
    table = rows()
    assert mapped(table, tmp_path / "none") is table
