"""What users of other tools ran into, as small inputs: how data are read, and what is said."""

from __future__ import annotations

import csv
import enum
import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from warmstart.data.cells import parse_cell
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.files import detected
from warmstart.data.readers.read import one_table, read
from warmstart.data.settings import Reading
from warmstart.errors import DataError, shown
from warmstart.tasks.classification import Classification
from warmstart.tasks.extractive_qa.task import ExtractiveQA
from warmstart.tasks.multilabel.task import Multilabel
from warmstart.tasks.translation import Translation

ROLES = Classification.roles
TOPICS = ("account", "billing", "delivery", "praise")
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike".split()


def text(i: int) -> str:
    """A text unlike the others."""
    return " ".join(WORDS[(i * step + step * step) % len(WORDS)] for step in range(1, 7)) + f" {i}"


def table(rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("text", "label")) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()


def labels_in(source: Any) -> list[str]:
    """The different labels of a source, in the order of the model's outputs."""
    mapped = map_roles(read(source, ledger=Ledger()), ROLES, {}, {"text", "label"})
    return Classification().fit_labels(mapped)


# 08: a quote that is no quote


@pytest.mark.parametrize(("ending", "mark"), [("tsv", "\t"), ("csv", ",")])
def test_stray_quotes_swallow_no_rows(put, rows, ending: str, mark: str) -> None:
    lines = [f"{i}{mark}{text(i)}{mark}{TOPICS[i % 4]}" for i in range(160)]
    lines[50] = f'50{mark}"good morning{mark}billing'
    lines[60] = f'60{mark}no more of this"{mark}praise'
    path = put(f"stray.{ending}", "\n".join([f"id{mark}text{mark}label", *lines]))
    result = rows(path)
    assert len(result.rows) == 160
    assert result.rows[50]["text"] == '"good morning'
    (note,) = [note for note in result.ledger.notes if note["kind"] == "quotes"]
    assert "plain characters" in note["message"] and note["loud"]


def test_a_quoted_field_that_holds_rows_is_refused(put, rows) -> None:
    lines = [f"{text(i)},{TOPICS[i % 4]}" for i in range(40)]
    lines[5] = '"a, b",billing'  # the file does quote
    lines[10], lines[20] = '"good morning,billing', 'no more",praise'
    path = put("d.csv", "\n".join(["text,label", *lines]))
    with pytest.raises(DataError, match=r"d\.csv:12: .*looks like rows.*--data\.quoting true"):
        rows(path)
    assert len(rows(path, quoting=True).rows) == 30, "the user says that it is one text"
    skipped = rows(path, bad_rows="skip")
    assert len(skipped.rows) == 39
    assert [row[:3] for row in skipped.ledger.bad_rows] == [
        (str(path), 12, "a quote that is not closed")
    ]


def test_a_text_of_several_lines_is_one_text(put, rows) -> None:
    letter = "Dear all, thanks\nthe parcel, which came late, was wet\nbye, X"
    found = rows(put("d.csv", table([(letter, "billing"), (text(1), "praise")])))
    assert found.rows[0]["text"] == letter and len(found.rows) == 2


# 09: encodings

POLISH = ["Zażółć gęślą jaźń, proszę o zwrot pieniędzy", "Dzień dobry, gdzie jest moja przesyłka?"]
CZECH = ["Dobrý den, kde je můj balík? Ještě nepřišel", "Žádám o vrácení peněz, účet mám špatně"]
TURKISH = ["Merhaba, kargom nerede? Şimdiye kadar gelmeliydi", "İade işlemi yapın lütfen, üzgünüm"]
FRENCH = ["Où est-ce que l’été a commencé ? C’était très bien", "Le garçon préfère les œufs"]
SPANISH = ["¿Dónde está mi pedido? Mañana es tarde", "El niño comió piña, ¡qué rico!"]
GERMAN = ["Die Straße ist naß und schön, größer", "Äpfel für Mädchen, müde Füße"]
SWEDISH = ["Var är mitt paket? Jag är väldigt besviken", "Köpte en ny bil i går, så bra"]


@pytest.mark.parametrize(
    ("texts", "encoding"),
    [
        (POLISH, "cp1250"), (POLISH, "iso8859_2"), (CZECH, "cp1250"), (CZECH, "iso8859_2"),
        (TURKISH, "cp1254"), (FRENCH, "mac_roman"), (FRENCH, "cp1252"), (SPANISH, "mac_roman"),
        (SPANISH, "cp1252"), (GERMAN, "mac_roman"), (GERMAN, "cp1252"), (SWEDISH, "cp1252"),
    ],
)  # fmt: skip
def test_letters_stay_what_they_were(put, rows, texts: list[str], encoding: str) -> None:
    path = put("d.csv", table([(line, "a") for line in texts]).encode(encoding))
    assert [row["text"] for row in rows(path).rows] == texts
    name, line = detected(path)
    assert line and texts[0][:20] in line, "a line to check the guess by"
    (note,) = [n for n in rows(path).ledger.notes if n["kind"] == "encoding"]
    assert note["loud"] and "is a guess" in note["message"] and "--data.encoding" in note["message"]
    assert name in note["message"]


def test_a_usual_encoding_goes_before_a_guess(put) -> None:
    hungarian = "text,label\nNagyon jó, köszönöm szépen, őszintén,a\n".encode("cp1250")
    assert detected(put("d.csv", hungarian), usual="cp1250") == ("cp1250", None)


# 10, 11, 24, 25: one value has one text


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["1", "1.0", "0", "0.0"], ["0", "1"]),
        (["1.0", "2.0", "10.0"], ["1", "2", "10"]),
        (["True", "FALSE", "true"], ["false", "true"]),
        (["1.5", "1.50", "2"], ["1.5", "1.50", "2"]),
        (["007", "7", "x"], ["007", "7", "x"]),
        (["A", "1.0", "1"], ["1", "1.0", "A"]),
    ],
)
def test_one_name_for_one_value(split, put, written: list[str], names: list[str]) -> None:
    many = [(text(i), written[i % len(written)]) for i in range(60)]
    found = split(put("d.csv", table(many)), validation_fraction=0, similarity=0)
    assert Classification().fit_labels(found.splits.train) == names


def test_the_same_labels_from_every_format(tmp_path: Path, split) -> None:
    texts = [text(i) for i in range(40)]
    for kind, values in {
        "bool": [i % 2 == 0 for i in range(40)],
        "int": [i % 3 for i in range(40)],
        "float": [float(i % 3) for i in range(40)],
        "float32": np.array([(i % 3) / 10 for i in range(40)], np.float32),
    }.items():
        frame = pd.DataFrame({"text": texts, "label": values})
        frame.to_csv(tmp_path / "d.csv", index=False)
        frame.to_parquet(tmp_path / "d.parquet")
        frame.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
        named: list[list[str]] = []
        ends = ("csv", "parquet") if kind == "float32" else ("csv", "parquet", "jsonl")
        for source in (
            frame,
            *(tmp_path / f"d.{end}" for end in ends),
        ):  # pandas cuts float32 there
            named.append(Classification().fit_labels(split(source, similarity=0).splits.train))
        assert all(names == named[0] for names in named), (kind, named)


def test_numbers_stand_in_the_order_of_numbers() -> None:
    rows = [{"text": text(i), "label": i % 12} for i in range(48)]
    assert labels_in(rows) == [str(i) for i in range(12)]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pd.cut([0, 1, 2, 3], 2), ["(-0.003, 1.5]", "(1.5, 3.0]"]),
        (pd.PeriodIndex(["2024-01", "2024-02"] * 2, freq="M"), ["2024-01", "2024-02"]),
        ([Path("a/b"), Path("c")] * 2, ["a/b", "c"]),
        ([Colour.RED, Colour.BLUE] * 2, ["blue", "red"]),
        (pd.array([1, 0, 1, 0], dtype="Sparse[int]"), ["0", "1"]),
        (pd.array([True, False] * 2, dtype="boolean"), ["false", "true"]),
        (np.array([0.1, 0.2, 0.1, 0.2], np.float32), ["0.1", "0.2"]),
    ],
)
def test_pandas_values_have_the_text_that_is_seen(values: Any, names: list[str]) -> None:
    frame = pd.DataFrame({"text": list("abcd"), "label": values})
    assert labels_in(frame) == names


def test_label_columns_of_1_0_and_0_0(put, rows) -> None:
    table_ = rows(put("d.csv", "text,a,b\nx,1.0,0.0\ny,,1.0\nz,0.0,0.0\n")).table
    task = Multilabel(label_columns=("a", "b"))
    mapped = map_roles(table_, task.roles, {}, set(task.roles))
    assert task.rows(mapped, lambda row, why: None)["labels"].to_pylist() == [
        '["a"]',
        '["b"]',
        "[]",
    ]


@pytest.mark.parametrize(
    "source",
    [
        {"text": ["a", "b"], "label": ["x", "y"]},
        (["a", "b"], ["x", "y"]),
        (pd.Series(["a", "b"]), np.array(["x", "y"])),
        (pd.DataFrame({"text": ["a", "b"]}), pd.Series(["x", "y"])),
        pa.table({"text": ["a", "b"], "label": ["x", "y"]}),
    ],
    ids=["columns", "X and y", "Series and array", "DataFrame and Series", "Arrow"],
)
def test_objects_that_hold_a_table(rows, source: Any) -> None:
    found = rows(source).rows
    assert [(row["text"], row["label"]) for row in found] == [("a", "x"), ("b", "y")]


def test_columns_of_unequal_length_are_refused(rows) -> None:
    with pytest.raises(DataError, match="text: 2, label: 1"):
        rows({"text": ["a", "b"], "label": ["x"]})
    with pytest.raises(DataError, match="2 texts and 1 label"):
        rows((["a", "b"], ["x"]))


# 15: columns that are not read


@pytest.mark.parametrize(
    ("header", "says", "loud"),
    [
        (("text", "label", "id"), "text = text, label = label; not read: id", False),
        (("title", "body", "label"), "text = body, label = label; not read: title", True),
        (("question", "sentence", "label"), "not read: question", True),
        (("text", "type", "emotion"), "label = type; not read: emotion", True),
    ],
)
def test_what_is_not_read_is_said(put, split, header: tuple[str, ...], says: str, loud: bool):
    class_like = {"label", "type", "emotion"}
    rows = [
        tuple(TOPICS[i % 4] if name in class_like else text(i + 100 * n)
              for n, name in enumerate(header))
        for i in range(60)
    ]  # fmt: skip
    from warmstart.data.settings import Data
    from warmstart.data.splitting import load

    ledger = Ledger()
    data = Data(path=str(put("d.csv", table(rows, header))), similarity=0)
    load(data, ROLES, {"text", "label"}, 0, ledger, label="label")
    (note,) = [note for note in ledger.notes if note["kind"] == "columns"]
    assert says in note["message"] and "(UTF-8, comma)" in note["message"]
    assert bool(note.get("loud")) is loud
    assert next(iter(ledger.summary()["reading"].values()))["delimiter"] == ","


# 20: messages in the letters of the user


def test_letters_of_every_script_are_shown() -> None:
    assert shown("表揚 Überschrift ขอ") == "表揚 Überschrift ขอ"
    assert shown("a\nb\u202e\u200b\ud800") == r"a\nb\u202e\u200b\ud800"


# 22: lists and objects in cells


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("['a', 'b']", ["a", "b"]), ('["a", null]', ["a", None]), ("{'a'}", ["a"]),
        ("('a', 'b')", ["a", "b"]), ("['a' 'b']", ["a", "b"]), ("[0 1 0]", [0, 1, 0]),
        ("[nan, -1.5]", [None, -1.5]), ("[\"it's\" 'b']", ["it's", "b"]),
        ("{'text': array(['x'], dtype=object), 'answer_start': array([3])}",
         {"text": ["x"], "answer_start": [3]}),
        ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
        ("(see below)", "(see below)"), ("[not a list", "[not a list"), (3, 3), (None, None),
    ],
)  # fmt: skip
def test_one_reader_of_cells(cell: Any, value: Any) -> None:
    assert parse_cell(cell) == value


def test_dictionaries_that_pandas_wrote_are_read(tmp_path: Path, rows) -> None:
    answers = {"text": np.array(["red"], object), "answer_start": np.array([7])}
    frame = pd.DataFrame({"context": ["it was red"], "question": ["what?"], "answers": [answers]})
    frame.to_csv(tmp_path / "squad.csv", index=False)
    task = ExtractiveQA()
    mapped = map_roles(rows(tmp_path / "squad.csv").table, task.roles, {}, set(), task.nested)
    assert '"red"' in task.rows(mapped, lambda row, why: None)["answers"][0].as_py()
    pairs = pd.DataFrame({"translation": [{"en": "good", "de": "gut"}]})
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    translation = Translation(source_language="en", target_language="de")
    mapped = map_roles(
        rows(tmp_path / "pairs.csv").table, translation.roles, {}, set(), translation.nested
    )
    done = translation.rows(mapped, lambda row, why: None)
    assert (done["source"][0].as_py(), done["target"][0].as_py()) == ("good", "gut")
    broken = mapped.set_column(0, "pair", pa.array(["good = gut"]))
    with pytest.raises(DataError, match=r"pairs\.csv:2: 'good = gut' is no pair of texts"):
        translation.rows(broken, lambda row, why: None)


# 23: the labels of test are hidden


def test_hidden_labels_are_said_and_validation_is_tested_on(split) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )

    def part(start: int, n: int, hidden: bool = False) -> datasets.Dataset:
        rows = {"text": [text(i) for i in range(start, start + n)],
                "label": [-1 if hidden else i % 2 for i in range(n)]}  # fmt: skip
        return datasets.Dataset.from_dict(rows, features=features)

    from warmstart.data.settings import Data
    from warmstart.data.splitting import load

    parts = {"train": part(0, 60), "validation": part(100, 20), "test": part(200, 30, True)}
    ledger = Ledger()
    found = load(
        Data(similarity=0), ROLES, {"text", "label"}, 0, ledger, datasets.DatasetDict(parts),
        label="label",
    )  # fmt: skip
    assert (len(found.test), found.given["test"], found.given["validation"]) == (20, True, False)
    assert 0 < len(found.validation) < 20
    assert ledger.summary()["rows"] == {"read": 80, "kept": 80, "dropped": 0}
    (note,) = [note for note in ledger.notes if note["kind"] == "hidden"]
    assert note["loud"] and "30 rows of test have hidden labels (-1" in note["message"]


# 29: no header, shards, sep=, fastText


def test_a_first_row_that_is_data_is_told_apart(put, rows) -> None:
    path = put("nohead.csv", table([(TOPICS[i % 4], text(i)) for i in range(1, 30)],
                                   (TOPICS[0], text(0))))  # fmt: skip
    with pytest.raises(DataError, match="the first row looks like data.*--data.header false") as no:
        map_roles(rows(path).table, ROLES, {}, {"text", "label"})
    assert "Did you mean" not in str(no.value)
    whole = rows(path, header=False).table
    named = {"text": "column 2", "label": "column 1"}
    mapped = map_roles(whole, ROLES, named, {"text", "label"})
    assert len(mapped) == 30 and mapped["text"][0].as_py() == text(0)


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "#TYPE System.Object\n"])
def test_a_first_line_about_the_file_is_no_row(put, rows, first: str) -> None:
    found = rows(put("d.csv", first + "text;label\na, b;x\nc, d;y\n"))
    assert [(row["text"], row["label"], row["_line"]) for row in found.rows] == [
        ("a, b", "x", 3), ("c, d", "y", 4)
    ]  # fmt: skip


def test_shards_patterns_and_lists_are_one_table(tmp_path: Path, split, rows) -> None:
    for i in range(2):
        part = {"text": [text(i * 40 + n) for n in range(40)], "label": ["x", "y"] * 20}
        name = tmp_path / "shards" / f"train-0000{i}-of-00002.parquet"
        name.parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(part), name)
    files = sorted((tmp_path / "shards").iterdir())
    found = split(tmp_path / "shards", similarity=0)
    assert found.summary["rows"]["read"] == 80 and len(found.summary["files"]) == 2
    for source in (str(tmp_path / "shards" / "*.parquet"), files):
        whole = rows(one_table(source))
        assert len(whole.rows) == 80
        assert {row["_file"] for row in whole.rows} == set(map(str, files))
    pq.write_table(pa.table({"text": ["a"], "other": ["b"]}), files[1])
    with pytest.raises(DataError, match="only one of them has a column 'label'"):
        rows(one_table(files))
    with pytest.raises(DataError, match="no file fits"):
        one_table(str(tmp_path / "*.jsonl"))


def test_fasttext_lines(put, rows) -> None:
    found = rows(put("d.txt", "__label__pos a good film\n\n__label__neg a bad, bad film\n")).rows
    assert [(row["label"], row["text"], row["_line"]) for row in found] == [
        ("pos", "a good film", 1), ("neg", "a bad, bad film", 3)
    ]  # fmt: skip
    several = rows(put("e.txt", "__label__a __label__b x\n__label__a y\n")).rows
    assert [row["labels"] for row in several] == [["a", "b"], ["a"]]


def test_how_a_file_was_read_is_in_the_ledger(put) -> None:
    path, ledger = put("d.csv", "text;label\na;x\n"), Ledger()
    read(path, ledger=ledger, how=Reading())
    assert ledger.reading == {
        str(path): {"encoding": "utf-8", "delimiter": ";", "quoting": True, "header": True}
    }
