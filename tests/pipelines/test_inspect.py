"""`warmstart.inspect`: the planted faults are found, and the files hold what they promise."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import warmstart
from warmstart.api import SAMPLES
from warmstart.errors import RecipeError, RunError


@pytest.fixture(scope="module")
def truth() -> dict[str, set[int]]:
    """Kind of planted fault → lines of the sample file (the header is line 1)."""
    found: dict[str, set[int]] = defaultdict(set)
    with (SAMPLES / "tickets_truth.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["kind"]].add(int(row["row"]) + 1)
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> warmstart.Inspection:
    folder = tmp_path_factory.mktemp("inspected")
    return warmstart.inspect(
        SAMPLES / "tickets.csv", out=folder / "out", fix=folder / "clean.csv",
        split=folder / "cut",
    )  # fmt: skip


def test_every_planted_copy_and_contradiction_is_found(seen: Any, truth: dict[str, set[int]]):
    pairs = seen.tables["duplicates"]
    conflicts = set(pairs[pairs.conflict].right_line)
    copies = set(pairs[~pairs.conflict].right_line)
    assert conflicts == truth["conflicting_label"]
    assert copies == truth["exact_duplicate"] | truth["near_duplicate"]


def test_every_planted_personal_datum_and_language_is_found(seen: Any, truth: dict[str, set[int]]):
    assert set(seen.tables["personal_data"].line) == truth["personal_data"]
    assert set(seen.tables["languages"].line) == truth["other_language"]


def test_every_planted_label_error_is_among_the_suspicious(seen: Any, truth: dict[str, set[int]]):
    assert truth["label_error"] <= set(seen.tables["suspicious"].line)


def test_findings_are_ranked_and_each_says_what_to_do(seen: Any):
    ranks = {"severe": 0, "worth fixing": 1, "note": 2}
    order = [ranks[one["severity"]] for one in seen.findings]
    assert order == sorted(order)
    kinds = {one["kind"] for one in seen.findings}
    assert {"conflict", "duplicates", "label_noise", "personal_data", "other_language",
            "imbalance"} <= kinds  # fmt: skip
    for one in seen.findings:
        assert one["message"].endswith(".") and one["remedy"] and one["rows"] > 0


def test_nothing_shows_a_number_whole(seen: Any):
    whole = ["4111 1111 1111 1111", "202-555-0143", "marta.fenwick@example.com"]
    source = (SAMPLES / "tickets.csv").read_text(encoding="utf-8")
    for name in ("report.html", "inspection.json", "duplicates.csv"):
        text = (seen.path / name).read_text(encoding="utf-8")
        for value in whole:
            assert value in source and value not in text, name


def test_the_clean_copy_and_the_split_account_for_every_row(seen: Any, truth: dict[str, set[int]]):
    told, cut = seen.summary["written"]["fix"], seen.summary["written"]["split"]
    rows = read(Path(told["out"]))
    lost = read(Path(told["removed"]))
    assert len(rows) + len(lost) == 597
    gone = {int(row["removed_line"]) for row in lost}
    copies = truth["exact_duplicate"] | truth["near_duplicate"] | truth["conflicting_label"]
    assert copies <= gone and len(gone) == len(copies) + len(truth["conflicting_label"])
    sides = [read(Path(cut["out"]) / f"{name}.csv") for name in ("train", "validation", "test")]
    assert sum(map(len, sides)) == len(rows)
    texts = [{row["text"] for row in side} for side in sides]
    assert not texts[0] & texts[2] and not texts[0] & texts[1]
    assert {row["label"] for row in sides[2]} == {row["label"] for row in rows}


def test_the_tables_are_data_frames_and_the_summary_is_json(seen: Any):
    assert json.loads((seen.path / "inspection.json").read_text()) == seen.summary
    for name in seen.tables:
        frame = seen.tables[name]
        assert list(frame.columns), name
    assert seen.tables["classes"].train.sum() == 597
    assert sorted(p.name for p in seen.path.iterdir()) == [
        "duplicates.csv", "inspection.json", "report.html", "suspicious.csv"]  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def quick(path: Any, folder: Path, **keys: Any) -> dict[str, dict[str, Any]]:
    found = warmstart.inspect(path, out=folder / "out", features=False, **keys)
    return {one["kind"]: one for one in found.findings}


def write(path: Path, rows: list[str], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_labels_that_tune_would_refuse_are_findings(tmp_path: Path):
    rows = [f"a quite long text number {i} here,{'spam' if i % 2 else 'Spam'}" for i in range(9)]
    found = quick(
        write(tmp_path / "a.csv", [*rows, "one more text,ham", "no label here,"]), tmp_path
    )
    assert "merge_labels" in found["label_spelling"]["remedy"]
    assert found["single_row"]["severity"] == "severe"
    assert found["empty_label"]["rows"] == 1


def test_data_without_labels_and_labels_of_one_kind(tmp_path: Path):
    bare = quick(write(tmp_path / "a.csv", ["hello you,1", "bye now,2"], "text,other"), tmp_path)
    assert "no_label" in bare
    same = quick(write(tmp_path / "b.csv", ["hello you,a", "bye now,a"]), tmp_path / "b")
    assert same["one_class"]["severity"] == "severe"


def test_short_cuts_leaks_and_groups_are_found(tmp_path: Path):
    names = "title,author,folder,text,label"
    rows = [f"t,ann{i % 9},{'xy'[i % 2]},{'win' if i % 2 else 'dear'} word{i} {'abc'[i % 3]},"
            f"{'spam' if i % 2 else 'ham'}" for i in range(120)]  # fmt: skip
    write(tmp_path / "train.csv", rows, names)
    write(tmp_path / "test.csv", [rows[0], rows[1].replace("word1 ", "other ")], names)
    found = quick(tmp_path, tmp_path / "o", **{"data.columns.text": "text"})
    assert found["giveaway_column"]["severity"] == "severe"
    assert "“dear” begins 100 %" in found["giveaway_word"]["message"]
    assert "1 more word does" in found["giveaway_word"]["message"]
    assert found["leakage"]["rows"] == 1
    assert "--data.group author" in found["group_column"]["remedy"]
    assert "title" in found["column"]["message"]


def test_what_a_limit_cuts(tmp_path: Path):
    rows = [f"{'word ' * 60}{i},{'ab'[i % 2]}" for i in range(10)]
    found = quick(write(tmp_path / "a.csv", rows), tmp_path, **{"task.max_length": 32})
    assert found["cut"]["rows"] == 10
    assert "--task.max_length 64" in found["cut"]["remedy"]


def test_objects_and_refusals(tmp_path: Path):
    rows = [{"text": f"text number {i} of many", "label": "ab"[i % 2]} for i in range(8)]
    assert quick(rows, tmp_path) is not None
    with pytest.raises(RecipeError, match=r"'train\.epochs' does not apply"):
        warmstart.inspect(rows, **{"train.epochs": 3})
    with pytest.raises(RecipeError, match="no data"):
        warmstart.inspect(out=tmp_path / "n")
    with pytest.raises(RunError, match="not empty"):
        warmstart.inspect(rows, out=tmp_path / "out", features=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
