"""No row of a delimited file is lost in silence: rows in = kept + dropped, against Python's csv."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.settings import Reading
from warmstart.errors import DataError

CELLS = st.text(st.sampled_from("ab ,;\t|\"'\n\rßé…#="), max_size=12)
ROWS = st.lists(st.tuples(CELLS, st.sampled_from(["x", "y", "z, too"])), min_size=1, max_size=8)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])


def loaded(data: bytes, **how: Any) -> tuple[list[tuple[str, str]], Ledger]:
    """The rows of a file as they are read, and the ledger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        path.write_bytes(data)
        ledger = Ledger()
        table = read(path, ledger=ledger, how=Reading(**how))
    rows = table.to_pylist()
    ledger.keep("train", len(rows))
    return [(row["text"], row["label"]) for row in rows], ledger


@settings(max_examples=300, deadline=None)
@given(ROWS, st.sampled_from(",;\t|"), QUOTING, ENDS, ENCODINGS)
@example([('a\n"', "x")], ",", csv.QUOTE_MINIMAL, "\n", "utf-8")
@example([("a,\nb", "x"), ("c", "y")], ",", csv.QUOTE_MINIMAL, "\n", "utf-8")
@example([("…", "x")], ",", csv.QUOTE_MINIMAL, "\n", "cp1252")
def test_what_csv_wrote_is_read(rows, delimiter: str, quoting, end: str, encoding: str) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([("text", "label"), *rows])
    how = {"delimiter": delimiter, "encoding": encoding if encoding == "utf-16-le" else None}
    try:
        data = stream.getvalue().encode(encoding)
        read_back, ledger = loaded(data, **how)
    except (UnicodeEncodeError, DataError):
        return  # refused in words
    if any(note.get("loud") for note in ledger.notes):
        return  # told on the screen
    if encoding == "cp1252":  # a few bytes can be sound in both
        assume(data.isascii() or "\ufffd" in data.decode("utf-8", "replace"))
    whole = io.StringIO(stream.getvalue(), newline="")
    _, *truth = [tuple(row) for row in csv.reader(whole, delimiter=delimiter) if row]
    headers = sum(row == ("text", "label") for row in truth)
    assert read_back == [row for row in truth if row != ("text", "label")]
    summary = ledger.summary()["rows"]
    assert summary == {"read": len(truth), "kept": len(truth) - headers, "dropped": headers}


LINES = st.lists(
    st.sampled_from(
        ["a,x", "b,y", '"c, d",x', '"e ""f""",y', "text,label", "g", "h,i,x", '"j,x', 'k",y',
         '"l"m,x', "n\0,x", ""]
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(LINES, st.booleans())
def test_bad_rows_are_counted_or_refused(lines: list[str], broken_bytes: bool) -> None:
    """Each line that is not blank is in a row that is kept, or is dropped with a reason."""
    lines = [line for i, line in enumerate(lines) if "\0" not in line or line not in lines[:i]]
    data = "\n".join(["text,label", "fürst é,x", *lines]).encode()
    if broken_bytes:
        data += b"\nbr\xffken,x"
    read_back, ledger = loaded(data, delimiter=",", bad_rows="skip")
    summary = ledger.summary()
    assert summary["rows"]["read"] == len(read_back) + summary["rows"]["dropped"]
    inside = sum(len(re.findall(r"\n(?=.)", text)) for text, _ in read_back)
    written = len(data.decode("latin-1").split("\n")) - 1 - sum(not line for line in lines)
    lost = written - inside - summary["rows"]["read"]
    assert lost <= sum(not line for line in lines)
    assert (lost == 0) or '"' in "".join(lines)


def test_all_bad_rows_are_listed_with_line_and_reason(tmp_path: Path) -> None:
    content = (
        b'text,label\ngood,x\nragged\ntext,label\nNUL\0,x\nbr\xffken,y\n"open,x\n'
        b'good \xc3\xa9 \xc3\xa9,y\n"quoted, well",x\n'
    )
    path, ledger = tmp_path / "d.csv", Ledger()
    path.write_bytes(content)
    table = read(path, ledger=ledger, how=Reading(bad_rows="skip"))
    assert table["text"].to_pylist() == ["good", "good é é", "quoted, well"]
    ledger.keep("train", 3)
    assert ledger.summary()["rows"] == {"read": 8, "kept": 3, "dropped": 5}
    reasons = {reason: entry["first"] for reason, entry in ledger.summary()["dropped"].items()}
    assert reasons == {
        "wrong number of fields": f"{path}:3",
        "repeats the header": f"{path}:4",
        "a NUL byte": f"{path}:5",
        "bytes that are not utf-8": f"{path}:6",
        "a quote that is not closed": f"{path}:7",
    }


@pytest.mark.parametrize(
    ("lines", "reasons"),
    [
        (['{"text": "a", "label": "x"}', '{"text": "b"', "[1]", '{"text": "c", "label": "y"}'],
         {"not valid JSON": 2, "not a JSON object": 3}),
        (['{"text": "a", "label": "x"}', '{"text": "b", "text": "c"}', '{"text": "c\0"}'],
         {"not valid JSON": 2, "a NUL byte": 3}),
    ],
)  # fmt: skip
def test_broken_json_lines_are_listed(tmp_path: Path, lines, reasons: dict[str, int]) -> None:
    path, ledger = tmp_path / "d.jsonl", Ledger()
    path.write_text("\n".join(lines), encoding="utf-8")
    table = read(path, ledger=ledger, how=Reading(bad_rows="skip"))
    ledger.keep("train", len(table))
    summary = ledger.summary()
    assert {r: e["first"] for r, e in summary["dropped"].items()} == {
        reason: f"{path}:{line}" for reason, line in reasons.items()
    }
    with pytest.raises(DataError, match=r"d\.jsonl:[23]: .*--data\.bad_rows skip"):
        read(path, ledger=Ledger())
