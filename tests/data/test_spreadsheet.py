"""Workbooks of Excel: the values of one sheet, named where there are several."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from warmstart.cli.main import main
from warmstart.errors import DataError, RecipeError, WarmstartError

ROWS = [["text", "label", "when"], ["a fine film", 1, datetime.date(2024, 5, 1)],
        [None, None, None], ["über 3 €", 2, None], ["last", 1, None]]  # fmt: skip
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def workbook(name: str = "d.xlsx", **sheets: list[list[Any]]) -> Path:
        book: Any = openpyxl.Workbook()
        book.remove(book.active)
        for title, rows in sheets.items():
            sheet = book.create_sheet(title)
            for row in rows:
                sheet.append(row)
        book.save(tmp_path / name)
        return tmp_path / name

    return workbook


def test_the_only_filled_sheet_is_read(write: Write, rows) -> None:
    found = rows(write(answers=ROWS, empty=[]))
    assert [(r["text"], r["label"], r["_line"]) for r in found.rows] == [
        ("a fine film", 1, 2), ("über 3 €", 2, 4), ("last", 1, 5)]  # fmt: skip
    assert found.ledger.notes[0]["kind"] == "sheet"
    assert found.rows[0]["when"] == datetime.datetime(2024, 5, 1)  # noqa: DTZ001


def test_of_several_sheets_one_is_named(write: Write, rows) -> None:
    path = write(may=ROWS, june=[["text", "label"], ["x", 3]])
    with pytest.raises(RecipeError, match=r"2 filled sheets \('may', 'june'\); name one, as in "):
        rows(path)
    assert [row["text"] for row in rows(f"{path}#june").rows] == ["x"]
    with pytest.raises(DataError, match="no sheet 'mai'. Did you mean 'may'"):
        rows(f"{path}#mai")


def test_formulas_give_their_values_and_are_not_run(write: Write, rows, tmp_path: Path) -> None:
    path = write(a=[["text", "label"], ["one", "=1+1"], ["two", 3]])
    assert [row["label"] for row in rows(path).rows] == [None, 3]  # nothing computed it yet
    whole, computed = zipfile.ZipFile(path), tmp_path / "computed.xlsx"
    with zipfile.ZipFile(computed, "w") as changed:
        for part in whole.namelist():
            text = whole.read(part)
            changed.writestr(
                part, text.replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
            )
    assert [row["label"] for row in rows(computed).rows] == [2, 3]


def test_rows_that_do_not_fit(write: Write, rows) -> None:
    path = write(a=[["text", "label"], ["one", 1, "more"], ["two", 2]])
    with pytest.raises(DataError, match=r"d\.xlsx:2: 3 cells, and the header has 2"):
        rows(path)
    found = rows(path, bad_rows="skip")
    assert len(found.rows) == 1 and found.ledger.bad_rows[0][1] == 2
    with pytest.raises(DataError, match="two columns are called 'text'"):
        rows(write(a=[["text", "text"], ["a", "b"]]))


def test_no_workbook_and_one_that_unpacks_without_end(tmp_path: Path, rows) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04" + bytes(100))
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/workbook.xml", bytes(300_000_000))
    for name, said in (("a.xlsx", "not a workbook"), ("b.xlsx", "unpacks to 300,000,000 bytes")):
        with pytest.raises(WarmstartError, match=said) as caught:
            rows(tmp_path / name)
        assert "save it as CSV" in str(caught.value) and "\n" not in str(caught.value)


def test_a_sheet_is_named_on_the_command_line(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [[f"a {word} film {n}", word] for n in range(20) for word in ("good", "bad")]
    write("t.xlsx", may=[["text", "label"], *lines], june=[["x"]])
    assert main(["tune", "t.xlsx", "--dry-run"]) == 2
    assert "t.xlsx#may" in capsys.readouterr().err
    assert main(["tune", "t.xlsx#may", "--dry-run"]) == 0
    assert "runs/t-" in capsys.readouterr().out
