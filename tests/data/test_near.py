from __future__ import annotations

import csv
import difflib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import warmstart
from warmstart.data.dedup.clusters import Duplicates, find_duplicates, values_differ
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read

LONG = "The rate of change in diagnosis marking was analysed with a test of regression by hand"
OTHER = "Serial liquid growth was performed as it has been described by the authors before"


def table(texts: list[str], labels: list[str] | None = None, file: str = "d.csv") -> pa.Table:
    columns: dict = {"text": pa.array(texts, pa.string())}
    if labels is not None:
        columns["label"] = labels
    columns["_file"] = pa.array([file] * len(texts), pa.string()).dictionary_encode()
    columns["_line"] = pa.array(range(2, len(texts) + 2), pa.int64())
    return pa.table(columns)


def found_in(*texts: str, **keys: float) -> list[tuple[int, int, str]]:
    """(left line, right line, kind) of every pair."""
    found = find_duplicates({"train": table(list(texts))}, ["text"], None, **keys)
    pairs = found.pairs.to_pylist()
    return [(p["left_line"] - 2, p["right_line"] - 2, p["kind"]) for p in pairs]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (LONG, "exact"),
        (LONG.upper() + "!!", "normalised"),
        (LONG.replace(" ", "\u00a0"), "normalised"),
        (LONG.replace(" with a", ""), "near"),
        (LONG.replace("change", "chagne"), "near"),
        (LONG.replace("marking was", "was marking"), "near"),
        (LONG.replace("analysed", "studied"), "near"),
        ("And besides: " + LONG, "near"),
        (LONG[: len(LONG) * 3 // 4], "near"),
        (" ".join(LONG.split()[4:]), "near"),
    ],
)
def test_what_is_a_copy(text: str, kind: str) -> None:
    assert found_in(LONG, OTHER, text) == [(0, 2, kind)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ok thanks", "ok thanks a lot"),
        ("What is the capital of Italy?", "What is the capital of Spain?"),
        ("What is the origin of the word mind?", "What is the origin of the word jazz?"),
        ("Who was the 23rd president of the United States?",
         "Who was the 3rd president of the United States?"),
        ("What does the c stand for in the equation E=mc2?",
         "What does the e stand for in the equation E=mc2?"),
        ("my parcel has not come and nobody answers me",
         "nobody answers me and my refund has not come"),
        (LONG, LONG[: len(LONG) // 3]),
        (LONG, OTHER),
    ],
)  # fmt: skip
def test_what_is_no_copy(one: str, other: str) -> None:
    assert found_in(one, other) == []


def test_scripts_without_spaces() -> None:
    text = "我昨天在你们的网上商店买了一台咖啡机今天收到的时候发现它已经坏了请问怎么退货"
    assert found_in(text, text.replace("今天", "今日"), "你好") == [(0, 1, "near")]


def test_no_similarity_asks_for_no_near_ones() -> None:
    assert found_in(LONG, LONG + " too", LONG.lower(), similarity=0) == [(0, 2, "normalised")]


def test_higher_similarity_finds_less() -> None:
    changed = LONG.replace("analysed", "studied")
    assert found_in(LONG, changed, similarity=0.8) and not found_in(LONG, changed, similarity=0.95)


def test_rows_without_text_are_no_copies() -> None:
    assert found_in("", "", " ", "x", "x") == [(3, 4, "exact")]
    assert find_duplicates({"train": table([])}, ["text"], None).summary["pairs"] == 0


def test_pairs_tell_split_file_line_label_and_conflict() -> None:
    parts = {
        "train": table([LONG.lower(), OTHER, LONG + " twice"], ["a", "b", "c"], "train.csv"),
        "test": table(["unlike the others", LONG], ["a", "a"], "test.csv"),
    }
    steps: list[tuple[str, int, int]] = []
    found = find_duplicates(parts, ["text"], "label", progress=lambda *step: steps.append(step))
    first, second = found.pairs.to_pylist()
    assert (first["left_split"], first["left_file"], first["left_line"]) == ("test", "test.csv", 3)
    assert (first["right_split"], first["right_line"], first["kind"]) == ("train", 2, "normalised")
    assert (first["left_text"], first["right_text"]) == (LONG, LONG.lower())
    assert (first["similarity"], first["conflict"]) == (1.0, False)
    assert (second["right_label"], second["conflict"], second["kind"]) == ("c", True, "near")
    assert 0.8 < second["similarity"] < 1
    groups = found.groups
    assert groups["train"][0] == groups["train"][2] == groups["test"][1] != groups["test"][0]
    assert found.summary["by_kind"] == {"exact": 0, "normalised": 1, "near": 1}
    assert found.summary["by_splits"]["train~test"]["rows"] == {"train": 2, "test": 1}
    assert found.summary["conflicts"] == 1 and steps[-1][1] == steps[-1][2]


def test_two_texts_a_row() -> None:
    rows = {"one": [LONG, LONG, LONG], "two": ["yes", "no", "Yes."]}
    parts = table(["", "", ""]).drop_columns("text")
    for name, values in rows.items():
        parts = parts.append_column(name, [values])
    pairs = find_duplicates({"train": parts}, ["one", "two"], None, 0).pairs.to_pylist()
    assert [(p["left_line"], p["right_line"], p["kind"]) for p in pairs] == [(2, 4, "normalised")]
    assert pairs[0]["right_text"] == f"{LONG}\nYes."


def test_a_train_row_is_paired_with_its_copy_in_test() -> None:
    parts = {"train": table([LONG + " now", LONG + " now twice"]), "test": table([LONG])}
    pairs = find_duplicates(parts, ["text"], None).pairs.to_pylist()
    assert [(p["left_split"], p["right_line"]) for p in pairs] == [("test", 2), ("test", 3)]


def test_a_hundred_thousand_equal_rows_are_one_group() -> None:
    rows = [f"{LONG}{'!' * (i % 50)}" for i in range(100_000)]
    found = find_duplicates({"train": table(rows)}, ["text"], None)
    assert found.summary["pairs"] == 99_999 and len(set(found.groups["train"])) == 1


WORDS = st.sampled_from("red green blue house tree over under runs seven letters moon".split())
TEXTS = st.lists(WORDS, min_size=1, max_size=14).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_copies_stand_with_their_text(texts: list[str], random) -> None:
    texts = [*texts, *(text.upper() for text in texts[:3])]
    order = list(range(len(texts)))
    random.shuffle(order)
    one = find_duplicates({"train": table(texts)}, ["text"], None)
    other = find_duplicates({"train": table([texts[i] for i in order])}, ["text"], None)
    assert partition(one) == {frozenset(order[i] for i in group) for group in partition(other)}
    number = dict(zip(texts, one.groups["train"].tolist(), strict=True))
    assert all(number[text] == number[text.lower()] for text in texts if text.isupper())


def partition(found: Duplicates) -> set[frozenset[int]]:
    """The groups of the train rows."""
    groups = found.groups["train"]
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.integers(1, 30))
def test_n_copies_give_n_less_one_pairs(text: str, n: int) -> None:
    assert len(found_in(*[text] * n)) == n - 1


def test_planted_leakage(shared_data: Path) -> None:
    folder = shared_data / "leakage"
    parts = {name: read(folder / f"{name}.csv", ledger=Ledger()) for name in ("train", "test")}
    found = find_duplicates(parts, ["text"], "label")
    names, group, text = {}, {}, {}
    for split, part in parts.items():
        places = zip(part["_file"].to_pylist(), part["_line"].to_pylist(), strict=True)
        names |= dict(zip(places, part["id"].to_pylist(), strict=True))
        group |= dict(zip(part["id"].to_pylist(), found.groups[split].tolist(), strict=True))
        text |= dict(zip(part["id"].to_pylist(), part["text"].to_pylist(), strict=True))
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = list(csv.DictReader(stream))
    for kind in {row["kind"] for row in truth}:
        hits = [group[row["id"]] == group[row["copy_of"]] for row in truth if row["kind"] == kind]
        assert sum(hits) >= 0.95 * len(hits), kind
    family = {row["id"]: row["copy_of"] for row in truth}
    pairs = [
        (names[p["left_file"], p["left_line"]], names[p["right_file"], p["right_line"]])
        for p in found.pairs.to_pylist()
    ]
    beyond = [(a, b) for a, b in pairs if family.get(a, a) != family.get(b, b)]
    wrong = [(a, b) for a, b in beyond if not shares_a_passage(text[a], text[b])]
    assert len(beyond) < 30 and len(wrong) <= 0.05 * len(pairs), wrong
    torn = {
        b for (_, b), p in zip(pairs, found.pairs.to_pylist(), strict=True) if p["conflict"]
    } | {a for (a, _), p in zip(pairs, found.pairs.to_pylist(), strict=True) if p["conflict"]}
    planted = {row["id"] for row in truth if row["note"] == "conflicting_label"}
    assert len(planted) == 30 and planted <= torn


def shares_a_passage(one: str, other: str) -> bool:
    """Whether a run of letters that both hold is most of the shorter text."""
    one, other = (" ".join(text.lower().split()) for text in (one, other))
    match = difflib.SequenceMatcher(None, one, other, autojunk=False).find_longest_match()
    return match.size >= 0.5 * min(len(one), len(other))


def test_sample_data() -> None:
    folder = Path(warmstart.__file__).parent / "samples"
    part = read(folder / "tickets.csv", ledger=Ledger())
    found = find_duplicates({"train": part}, ["text"], "label")
    number = {line: i + 1 for i, line in enumerate(part["_line"].to_pylist())}
    with (folder / "tickets_truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = [row for row in csv.DictReader(stream) if row["of_row"]]
    pairs = found.pairs.to_pylist()
    assert {(number[p["left_line"]], number[p["right_line"]]) for p in pairs} == {
        (int(row["of_row"]), int(row["row"])) for row in truth
    }
    torn = {number[p["right_line"]] for p in pairs if p["conflict"]}
    assert torn == {int(row["row"]) for row in truth if row["kind"] == "conflicting_label"}
    assert found.summary["by_kind"]["exact"] == 11


@pytest.mark.parametrize(("name", "most"), [("trec", 25), ("sst2", 3), ("tweet_irony", 5)])
def test_clean_sets_give_few_pairs(shared_data: Path, name: str, most: int) -> None:
    parts = {
        split: read(shared_data / name / f"{split}.csv", ledger=Ledger())
        for split in ("train", "test")
    }
    found = find_duplicates(parts, ["text"], None)
    assert found.summary["by_kind"]["near"] <= most
    short = [p for p in found.pairs.to_pylist() if p["kind"] == "near"]
    assert all(len(p["right_text"].split()) >= 6 for p in short)


WITHOUT = "the quick brown fox jumps over the lazy dog near the old river today"


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (WITHOUT.replace("old", "new"), True),
        (WITHOUT.replace("brown fox", "grey wolf"), True),
        (WITHOUT.replace("brown fox", "hen"), True),
        (WITHOUT.replace("today", "5"), True),
        (WITHOUT.replace("quick", "qiuck"), False),
        (WITHOUT.replace("lazy ", ""), False),
        (WITHOUT.replace("lazy dog", "dog lazy"), False),
        (WITHOUT.replace("over the", "overthe"), False),
        (WITHOUT + " again", False),
        (" ".join(WITHOUT.split()[3:]), False),
        (WITHOUT, False),
    ],
)
def test_what_is_another_value(other: str, differs: bool) -> None:
    assert values_differ(WITHOUT.split(), other.split()) is differs
    assert values_differ(other.split(), WITHOUT.split()) is differs


def test_another_value_with_another_target_is_no_copy() -> None:
    """With the same target, or where only a misspelling differs, it is."""
    for text, label, found in (("5 pounds", "b", 0), ("5 pounds", "a", 1), ("4 puonds", "b", 1)):
        rows = table([f"{LONG} 4 pounds", f"{LONG} {text}"], ["a", label])
        assert find_duplicates({"train": rows}, ["text"], "label").summary["pairs"] == found
