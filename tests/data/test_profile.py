"""Facts about data: what was read, its columns, its lengths, and characters that went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.ledger import Ledger
from warmstart.data.profiling.columns import (
    Source,
    column_facts,
    file_facts,
    looks_like_group,
    read_all,
)
from warmstart.data.settings import Data
from warmstart.data.tables import is_blank
from warmstart.errors import DataError
from warmstart.evaluation.inspection import texts as text_facts

ROLES = {"text": ("text", "body"), "label": ("label",)}


def read(path: Path, **settings: Any) -> Source:
    return read_all(Data(path=str(path), **settings), ROLES, {"text"}, Ledger())


def test_columns_say_what_they_hold(tmp_path: Path):
    (tmp_path / "a.csv").write_text(
        "id,body,label,lang,gap,author\n"
        + "".join(f"{i},some text {i % 3},{'ab'[i % 2]},en,,ann{i % 2}\n" for i in range(6))
    )
    found = {row["column"]: row for row in column_facts(read(tmp_path / "a.csv"))}
    assert found["body"]["role"] == "text" and found["label"]["role"] == "label"
    assert found["id"]["verdict"] == "every value is different"
    assert found["lang"]["verdict"] == "constant"
    assert found["gap"]["verdict"] == "empty" and found["gap"]["empty"] == 1
    assert found["body"]["distinct"] == 3
    assert [c for c in found if looks_like_group(found[c])] == ["author"]


def test_columns_of_any_type_are_counted():
    table = pa.table({
        "text": ["x", "y"],
        "nothing": pa.nulls(2),
        "kind": pa.array(["a", None]).dictionary_encode(),
    })  # fmt: skip
    facts = {
        row["column"]: row
        for row in column_facts(read_all(Data(), ROLES, {"text"}, Ledger(), table))
    }
    assert facts["nothing"]["verdict"] == "empty" and facts["nothing"]["distinct"] == 0
    assert facts["kind"]["distinct"] == 1 and facts["kind"]["type"] == "text"


def test_files_say_how_they_were_read(tmp_path: Path):
    (tmp_path / "train.csv").write_bytes("text;label\nschön;a\nübel;b\n".encode("cp1252"))
    (tmp_path / "test.jsonl").write_text('{"text": "x", "label": "a"}\n')
    source = read(tmp_path)
    facts = {row["split"]: row for row in file_facts(source, Data(path=str(tmp_path)))}
    assert facts["train"]["encoding"] == "cp1252" and facts["train"]["delimiter"] == "semicolon"
    assert facts["test"]["format"] == "json" and facts["test"]["delimiter"] is None
    assert source.class_counts == {
        "a": {"train": 1, "test": 1},
        "b": {"train": 1, "test": 0},
    }


def test_nothing_is_dropped_and_a_lost_column_is_told(tmp_path: Path):
    (tmp_path / "train.csv").write_text("text,label\n,a\nx,\n  ,\n")
    (tmp_path / "test.csv").write_text("text,other\nx,y\n")
    with pytest.raises(DataError, match="test has no label column"):
        read(tmp_path)
    alone = read(tmp_path / "train.csv")
    assert is_blank(alone.parts["train"]["text"]).tolist() == [True, False, True]


def test_characters_that_went_wrong_are_found():
    said = {
        "html": ["a &amp; b", "x<br>y", "tom &#39;s"],
        "mojibake": ["itâ€™s", "cafÃ©", "a\ufffdb"],
        "control": ["a\x00b", "a\x07", "x\x92y"],
        "invisible": ["a\u200bb", "\ufeffx"],
    }
    fine = ["a < b & c", "Ã la carte?", "déjà vu", "two\nlines\tand tab", "family 👩‍👩‍👧", "âge"]
    texts = [text for some in said.values() for text in some] + fine
    found = text_facts.odd_rows(pa.chunked_array([texts]))
    for kind, some in said.items():
        assert [texts[i] for i in found[kind]] == some, kind


def test_next_to_empty_is_not_empty_and_not_chinese_and_no_emoji():
    texts = pa.chunked_array([["Ok", "?!", "yes", "", "  ", "好", "🎉", "a 1"]])
    assert text_facts.odd_rows(texts)["near_empty"].tolist() == [0, 1, 7]
    assert text_facts.odd_rows(texts)["empty"].tolist() == [3, 4]


@given(st.lists(st.integers(0, 700), min_size=1, max_size=60), st.integers(3, 600))
def test_cuts_and_histograms_account_for_every_row_and_token(lengths: list[int], asked: int):
    array = np.array(lengths)
    for row in text_facts.cuts(array, asked):
        assert row["rows"] == sum(n > row["max_length"] for n in lengths)
        assert row["tokens"] == sum(max(0, n - row["max_length"]) for n in lengths)
    one = text_facts.distribution(array)
    drawn = one["histogram"]
    assert sum(drawn["counts"]) + drawn["over"] == len(lengths)
    assert len(drawn["edges"]) == len(drawn["counts"]) + 1
    assert one["min"] <= one["median"] <= one["p95"] <= one["p99"] <= one["max"] == max(lengths)


def test_the_smallest_limit_that_is_enough():
    found = text_facts.cuts(np.array([10] * 99 + [200]), 256, base_limit=512)
    assert text_facts.sufficient_limit(found) == 32
    assert (
        text_facts.sufficient_limit(text_facts.cuts(np.array([900]), 256, base_limit=512)) is None
    )
