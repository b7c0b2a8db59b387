"""What a person wrote into the table is done, row by row, or refused with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.corrections import correct, excerpt
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError

Put = Callable[[str, str | bytes], Path]
DATA = 'text,label\ngood film,pos\n"bad, very\nbad",pos\nso so,neg\n=1+1,neg\n'
HEAD = "file,line,text,label,suggested,confidence,use\n"


@pytest.fixture
def data(put: Put) -> pa.Table:
    return read(put("data.csv", DATA), ledger=Ledger())


def corrected(data: pa.Table, put: Put, rows: str, head: str = HEAD) -> tuple[pa.Table, Ledger]:
    ledger = Ledger()
    file = str(data["_file"][0].as_py())
    path = put("fix.csv", (head + rows).replace("FILE", file))
    return correct({"train": data}, "label", path, ledger)["train"], ledger


def labels(table: pa.Table) -> list[str]:
    return table["label"].to_pylist()


def test_relabel_drop_and_leave(data: pa.Table, put: Put) -> None:
    found, ledger = corrected(
        data, put,
        'FILE,3,"bad, very bad",pos,neg,0.01,neg\n'
        "FILE,5,so so,neg,pos,0.1,drop\n"
        "FILE,2,good film,pos,neg,0.2,\n",
    )  # fmt: skip
    assert labels(found) == ["pos", "neg", "neg"]
    assert found["text"].to_pylist() == ["good film", "bad, very\nbad", "=1+1"]
    assert labels(data) == ["pos", "pos", "neg", "neg"]
    file = str(data["_file"][0].as_py())
    ledger.read(file, 4)
    ledger.keep("train", 3)
    summary = ledger.summary()
    dropped = {"left out by corrections": {"rows": 1, "first": f"{file}:5"}}
    assert summary["dropped"] == dropped
    (note,) = summary["notes"]
    assert note["relabelled"] == [{"file": file, "line": 3, "from": "pos", "to": "neg"}]
    assert note["dropped"] == 1 and "1 label corrected, 1 row left out" in note["message"]


def test_nothing_filled_in_is_told(data: pa.Table, put: Put) -> None:
    found, ledger = corrected(data, put, "FILE,2,good film,pos,neg,0.2,\n")
    assert labels(found) == labels(data)
    assert "corrects nothing" in ledger.notes[0]["message"]


def test_a_label_that_is_right_already_is_no_change(data: pa.Table, put: Put) -> None:
    found, ledger = corrected(data, put, "FILE,2,good film,pos,neg,0.2, pos \n")
    assert labels(found) == labels(data) and ledger.notes[0]["relabelled"] == []


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_what_spreadsheets_make_of_it(put: Put, delimiter: str, encoding: str) -> None:
    data = read(put("data.csv", "text,label\ncafé crème,a\nthé vert,b\n"), ledger=Ledger())
    file = str(data["_file"][0].as_py())
    rows = [HEAD.strip().split(","), [file, "2", "café crème", "a", "b", "0,2", "b"]]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    path = put("fix.csv", text.encode(encoding))
    assert labels(correct({"train": data}, "label", path, Ledger())["train"]) == ["b", "b"]


def test_columns_may_go_and_change_places(data: pa.Table, put: Put) -> None:
    found, _ = corrected(data, put, "neg,good film,2,FILE\n", "use,text,line,file\n")
    assert labels(found)[0] == "neg"


def test_formulas_carry_their_apostrophe(data: pa.Table, put: Put) -> None:
    found, _ = corrected(data, put, "FILE,6,'=1+1,neg,pos,0.2,pos\n")
    assert labels(found)[3] == "pos"


def test_long_texts_are_shortened_on_both_sides(put: Put) -> None:
    long = "word " * 900
    data = read(put("data.csv", f"text,label\n{long},a\nother,b\n"), ledger=Ledger())
    file = str(data["_file"][0].as_py())
    path = put("fix.csv", f"{HEAD}{file},2,{excerpt([long])},a,b,0.1,b\n")
    assert labels(correct({"train": data}, "label", path, Ledger())["train"]) == ["b", "b"]


def test_the_folder_may_have_moved(data: pa.Table, put: Put) -> None:
    found, _ = corrected(data, put, "C:\\old\\data.csv,2,good film,pos,neg,0.2,neg\n")
    assert labels(found)[0] == "neg"


def test_each_part_gets_its_own(put: Put) -> None:
    parts = {
        name: read(put(f"{name}.csv", f"text,label\n{name} one,a\n{name} two,b\n"), ledger=Ledger())
        for name in ("train", "test")
    }
    file = str(parts["test"]["_file"][0].as_py())
    path = put("fix.csv", f"{HEAD}{file},3,test two,b,a,0.1,a\n")
    found = correct(parts, "label", path, Ledger())
    assert {name: labels(table) for name, table in found.items()} == {
        "train": ["a", "b"],
        "test": ["a", "a"],
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("FILE,2,good movie,pos,neg,0.2,neg", r"fix.csv:2: .*data.csv:2 has another text .*good"),
        ("FILE,9,good film,pos,neg,0.2,neg", r"fix.csv:2: .*data.csv has no row at line 9"),
        ("FILE,4,good film,pos,neg,0.2,neg", "no row at line 4"),
        ("FILE,two,good film,pos,neg,0.2,neg", r"fix.csv:2: the line is 'two', not a number"),
        ("FILE,2,good film,pos,neg,0.2,nge", r"fix.csv:2: no row has the label 'nge'.*'neg'"),
        ("FILE,2,good film,pos,neg,0.2,Drop", "no row has the label 'Drop'.*'drop'"),
        ("other.csv,2,good film,pos,neg,0.2,neg", r"fix.csv:2: the row is of other.csv.*no such"),
        ("FILE,2,good film,p,n,0,neg\nFILE,2,good film,p,n,0,pos", r"fix.csv:3: .*fix.csv:2"),
    ],
)
def test_what_does_not_fit_is_refused(data: pa.Table, put: Put, row: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        corrected(data, put, row + "\n")
    assert "\n" not in str(caught.value)


def test_the_row_is_named_where_it_starts(data: pa.Table, put: Put) -> None:
    """Behind a record of two lines."""
    rows = 'FILE,3,"bad, very\nbad",pos,neg,0.01,\nFILE,2,no film,pos,neg,0.2,neg\n'
    with pytest.raises(DataError, match=r"fix\.csv:4: "):
        corrected(data, put, rows)


def test_a_label_called_drop(put: Put) -> None:
    data = read(put("data.csv", "text,label\none,drop\ntwo,keep\n"), ledger=Ledger())
    with pytest.raises(DataError, match="have a label 'drop'"):
        corrected(data, put, "FILE,3,two,keep,drop,0.1,drop\n")


def test_not_such_a_table(data: pa.Table, put: Put, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fix.csv has no column use"):
        corrected(data, put, "FILE,2,good film\n", "file,line,text\n")
    with pytest.raises(DataError, match="no column file"):
        corrected(data, put, "", "")
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(Exception, match=str(path.name)) as caught:
            correct({"train": data}, "label", path, Ledger())
        assert "Traceback" not in str(caught.value)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=3))
def test_an_excerpt_is_one_line_and_stable(texts: list[str]) -> None:
    found = excerpt(list(texts))
    assert "\n" not in found and "\r" not in found
    assert " ".join(found.split()) == found
    assert not found.startswith(("=", "+", "-", "@"))
