from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.dedup.exact import all_normalised, normalised, text_keys
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, World!", "hello world"),
        ("what's up", "whats up"),
        ("what\u2019s up", "what's UP"),
        ("\uff21\uff22\uff23 \ufb01", "abc fi"),
        ("a \u200b b\u00a0c\n", "a b c"),
        ("Straße", "STRASSE"),
        ("Great  :)", "great:)!"),
        ("10 %", "10%."),
        ("see #tag", "see tag"),
        ("Note: (see below)", "note see below"),
        ("pages 3 - 5", "pages 3 5"),
        ("a well-known one", "a well known one"),
        ("http://a.b", "http a b"),
        ("it cost 5.", "it cost 5"),
    ],
)
def test_same_text(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("great 😀", "great 😡"), ("!!!", "???"), ("c", "c++"), ("a b", "ab"),
        ("great :)", "great :("), ("great:)", "great :("), ("great :)", "great"),
        ("ok :-D", "ok :-/"),
        ("I write C#", "I write C"), ("C# and F#", "C and F"),
        ("it is -5 outside", "it is 5 outside"), ("-5", "5"), ("–5 °C", "5 °C"), ("+5", "5"),
        ("1.5 mg", "15 mg"), ("1.5 mg", "1 5 mg"), ("10% off", "10 off"), ("5:30", "530"),
        ("3/4", "34"), ("12.05.2020", "12052020"), ("great :) é", "great :( é"),
    ],
)  # fmt: skip
def test_different_text(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_planted_copies_are_found(shared_data: Path) -> None:
    folder = shared_data / "leakage"
    tables = {n: read(folder / f"{n}.csv", ledger=Ledger()) for n in ("train", "test")}
    key = {}
    for table in tables.values():
        key |= dict(zip(table["id"].to_pylist(), text_keys(table, ["text"]), strict=True))
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as stream:
        truth = [r for r in csv.DictReader(stream) if r["kind"] in ("exact", "case_space_punct")]
    found = [key[row["id"]] == key[row["copy_of"]] for row in truth]
    assert len(found) > 50 and sum(found) / len(found) > 0.95


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(), st.text("aB'`._ \x00\x1f\n-é:;=()5%#/C,"))))
def test_many_at_once_are_normalised_as_one_by_one(texts: list[str]) -> None:
    assert all_normalised(texts) == [normalised(text) for text in texts]
