from __future__ import annotations

import io
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmstart.errors import DataError, RecipeError, WarmstartError

TABLE = pa.table({"text": ["a", "b", "c"], "label": [1, 0, 1]})


def test_parquet_and_arrow(tmp_path: Path, rows) -> None:
    pq.write_table(TABLE, tmp_path / "d.parquet")
    for name, writer in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with writer(tmp_path / f"{name}.arrow", TABLE.schema) as out:
            out.write_table(TABLE)
    for name in ("d.parquet", "file.arrow", "stream.arrow"):
        found = rows(tmp_path / name)
        assert found.table.select(["text", "label"]).equals(TABLE)
        assert found.table["_line"].to_pylist() == [1, 2, 3]
        assert found.table["_file"].type == pa.dictionary(pa.int32(), pa.string())
        assert len(rows(tmp_path / name, limit=2).table) == 2


def test_content_goes_before_extension(tmp_path: Path, rows) -> None:
    pq.write_table(TABLE, tmp_path / "d.csv")
    assert len(rows(tmp_path / "d.csv").table) == 3
    (tmp_path / "noname").write_text('{"text": "a"}\n')
    assert rows(tmp_path / "noname").rows[0]["text"] == "a"


def test_python_objects(rows) -> None:
    import datasets

    frame = pd.DataFrame({"text": ["a", None, "c"], "label": [1, 2, 3], 7: [1, "x", None]})
    found = rows(frame).rows
    assert [r["text"] for r in found] == ["a", None, "c"]
    assert [r["7"] for r in found] == ["1", "x", None]
    assert found[2]["_file"] == "<DataFrame>" and found[2]["_line"] == 3
    chosen = datasets.Dataset.from_dict({"text": ["a", "b", "c"]}).select([2, 0])
    assert [r["text"] for r in rows(chosen).rows] == ["c", "a"]
    assert rows(TABLE).table.num_rows == 3
    assert rows([{"text": "a"}, {"text": "b", "label": "x"}]).rows[0]["label"] is None


def test_data_set_saved_to_disk(tmp_path: Path, rows) -> None:
    import datasets

    data = datasets.Dataset.from_dict({"text": ["a", "b", "c", "d"]})
    data.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    found = rows(tmp_path / "saved").rows
    assert [(r["text"], r["_line"]) for r in found] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("d.parquet", parquet_bytes()[:-20], ["damaged or incomplete Parquet", "again"]),
        ("d.parquet", b"text,label\na,b\n", ["not a Parquet file"]),
        ("d.arrow", b"ARROW1\0\0nonsense", ["damaged or incomplete Arrow"]),
        ("d.csv", bytes(range(256)) * 20, ["not text", "control characters"]),
        ("d.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(64)), ["not text"]),
        ("d.csv", b"PK\x03\x04" + b"x" * 50, ["archive or a spreadsheet", "CSV"]),
        ("d.xlsx", b"PK\x03\x04" + b"x" * 50, ["workbook that can be read", "save it as CSV"]),
        ("d.pkl", b"anything", ["pickle", "run code", "CSV or Parquet"]),
        ("d.csv", b"\x80\x04\x95abc", ["pickle"]),
        ("d.docx", b"text", ["'.docx' files are not read", "CSV"]),
        ("d.zip", b"text", ["unpack"]),
        ("d.csv", b"", ["is empty"]),
        ("d.parquet", b"", ["is empty"]),
    ],
)
def test_bad_files(put, rows, name: str, content: bytes, what: list[str]) -> None:
    path = put(name, content)
    with pytest.raises((DataError, RecipeError)) as caught:
        rows(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert all(words in message for words in what), message


def test_missing_file_names_the_nearest(put, rows, tmp_path: Path) -> None:
    put("tickets.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match=r"ticket\.csv'.*Did you mean 'tickets.csv'"):
        rows(tmp_path / "ticket.csv")
    with pytest.raises(DataError, match="folder does not exist"):
        rows(tmp_path / "nowhere" / "ticket.csv")


@pytest.mark.parametrize("how", ["mode", "refused"])
def test_no_permission(put, rows, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    path = put("d.csv", "text,label\na,b\n")
    if how == "mode":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        path.chmod(0)
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"d\.csv may not be read: .*chmod"):
        rows(path)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (7, "type int"),
        ([1, 2], "<list>:1: 1 is not a dictionary"),
        ([], "no rows"),
        (pd.DataFrame({"text": []}), "no rows"),
        (pa.table([[1], [2]], names=["a", "a"]), "two columns are called 'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are called 'a'"),
    ],
)
def test_bad_objects(rows, source: object, what: str) -> None:
    with pytest.raises(WarmstartError, match=what):
        rows(source)


def test_folder_is_not_one_table(rows, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder"):
        rows(tmp_path)


def test_frames_of_polars_are_tables(rows) -> None:
    import polars

    frame = polars.DataFrame({
        "text": ["a", "ü €", None], "label": ["x", "y", "x"], "n": [1, 2, 3],
        "tags": [["O"], ["O", "B-X"], []],
        "kind": polars.Series(["p", "q", "p"]).cast(polars.Categorical),
    })  # fmt: skip
    for source in (frame, frame.lazy()):
        found = rows(source).rows
        assert [row["text"] for row in found] == ["a", "ü €", None]
        assert [row["tags"] for row in found] == [["O"], ["O", "B-X"], []]
        assert [str(row["kind"]) for row in found] == ["p", "q", "p"] and found[2]["n"] == 3
    assert [row["text"] for row in rows(frame["label"]).rows] == ["x", "y", "x"]


def test_a_model_is_trained_on_frames_of_polars_and_asked_with_them(tmp_path, monkeypatch) -> None:
    import polars

    import warmstart

    monkeypatch.chdir(tmp_path)
    words = ["good", "bad"] * 20
    frame = polars.DataFrame(
        {"text": [f"{w} film {n}" for n, w in enumerate(words)], "label": words}
    )
    split = warmstart.plan(frame)["rows"]
    assert split["train"] > 10
    both = {"train": frame[4:], "test": frame.head(4)}
    assert warmstart.plan(both)["rows"]["test"] == 4
    assert warmstart.plan((frame["text"], frame["label"]))["rows"] == split
