"""A clean copy: which rows go, why, where the twin stays; nothing lost, nothing half-written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.ledger import Ledger
from warmstart.data.profiling.columns import Source, read_all
from warmstart.data.settings import Data
from warmstart.errors import RecipeError, RunError
from warmstart.pipelines.clean import check_fix, removals, removed_path, write_clean, write_split

ROLES = {"text": ("text",), "label": ("label",)}


def table(rows: list[tuple[str | None, str | None]]) -> pa.Table:
    names = {"text": [t for t, _ in rows], "label": [x for _, x in rows]}
    return pa.table({name: pa.array(v, pa.string()) for name, v in names.items()})


def gone(parts: dict[str, list], keys: dict[str, list[int]], groups: dict | None = None) -> dict:
    arrays = {name: np.array(v, np.int64) for name, v in keys.items()}
    near = {name: np.array(v, np.int64) for name, v in (groups or keys).items()}
    found = removals({name: table(rows) for name, rows in parts.items()}, near, arrays)
    return {(one.split, one.row): (one.reason, one.kept) for one in found}


def test_the_first_of_equal_rows_stays():
    found = gone(
        {"train": [("Hi there", "a"), ("hi there!", "a"), ("Hi there", "a"), ("bye", "b")]},
        {"train": [1, 1, 1, 2]},
    )
    twin = ("train", 0)
    assert found == {
        ("train", 1): ("copy but for case, punctuation or spacing", twin),
        ("train", 2): ("exact copy", twin),
    }


def test_a_test_row_never_goes_because_of_train():
    found = gone(
        {"train": [("x", "a"), ("y", "a")], "test": [("x", "b"), ("z", "a")]},
        {"train": [1, 2], "test": [1, 3]},
    )
    assert found == {("train", 0): ("copy of a row of test", ("test", 0))}


def test_equal_texts_with_two_labels_need_a_clear_majority():
    parts = {"train": [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b"), ("y", "a")]}
    found = gone(parts, {"train": [1, 1, 2, 2, 2]})
    assert {place[1] for place in found} == {0, 1, 3, 4}
    assert "1 × a, 1 × b" in found["train", 0][0] and found["train", 0][1] is None
    assert found["train", 3] == ("equal text with another label than 2 of 3", ("train", 2))


def test_near_copies_go_unless_their_labels_differ():
    parts = {"train": [("a b c", "a"), ("a b d", "a"), ("a b e", "b"), ("a b f", "b")]}
    found = gone(parts, {"train": [1, 2, 3, 4]}, {"train": [7, 7, 7, 7]})
    assert found == {
        ("train", 1): ("near-copy", ("train", 0)),
        ("train", 3): ("near-copy", ("train", 2)),
    }


def test_rows_without_text_or_label_go():
    parts = {"train": [("", "a"), ("x", None), ("x", "a"), (None, " ")]}
    found = gone(parts, {"train": [-1, -1, 5, -1]})
    reasons = {place[1]: reason for place, (reason, _) in found.items()}
    assert reasons == {0: "empty text", 1: "empty label", 3: "empty text"}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.csv").write_text("id,text,label\n1,x,a\n2,x,a\n3,y,b\n4,,b\n")
    (tmp_path / "in" / "test.tsv").write_text("id\ttext\tlabel\n5\ty\tb\n")
    return read_all(Data(path=str(tmp_path / "in")), ROLES, {"text"}, Ledger())


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_every_row_is_in_the_copy_or_among_the_removed(source: Source, tmp_path: Path):
    keys = {"train": np.array([1, 1, 2, -1]), "test": np.array([2])}
    out = tmp_path / "clean"
    told = write_clean(source, removals(source.parts, keys, keys), out)
    assert rows_of(out / "train.csv") == [{"id": "1", "text": "x", "label": "a"}]
    assert rows_of(out / "test.tsv", "\t") == [{"id": "5", "text": "y", "label": "b"}]
    lost = rows_of(removed_path(out))
    assert [(row["id"], row["removed_line"], row["removed_because"]) for row in lost] == [
        ("2", "3", "exact copy"),
        ("3", "4", "copy of a row of test"),
        ("4", "5", "empty text"),
    ]
    assert lost[0]["kept_at"].endswith("train.csv:2") and lost[2]["kept_at"] == ""
    assert told["rows"] == {"train": 1, "test": 1} and told["removed_rows"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "clean.removed.csv", "in"]


def test_nothing_is_overwritten(source: Source, tmp_path: Path):
    (tmp_path / "there").mkdir()
    with pytest.raises(RunError, match="is not overwritten"):
        check_fix(tmp_path / "there", source)
    (tmp_path / "other.removed.csv").touch()
    with pytest.raises(RunError, match=r"other\.removed\.csv exists"):
        check_fix(tmp_path / "other", source)
    with pytest.raises(RecipeError, match="must be a folder"):
        check_fix(tmp_path / "one.csv", source)


def test_a_full_disk_leaves_nothing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    keys = {"train": np.array([1, 1, 2, -1]), "test": np.array([2])}
    with pytest.raises(RunError, match="No space left"):
        write_clean(source, removals(source.parts, keys, keys), tmp_path / "clean")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_split_keeps_all_columns_and_names_what_it_left_out(source: Source, tmp_path: Path):
    train = source.parts["train"]
    told = write_split(
        source,
        {"train": train.slice(0, 1), "validation": train.slice(2, 1), "test": source.parts["test"]},
        tmp_path / "cut",
    )
    assert rows_of(tmp_path / "cut" / "validation.csv") == [{"id": "3", "text": "y", "label": "b"}]
    assert told["rows"] == {"train": 1, "validation": 1, "test": 1}
    assert [row["id"] for row in rows_of(tmp_path / "cut.removed.csv")] == ["2", "4"]
