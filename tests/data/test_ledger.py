from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.ledger import Ledger
from warmstart.errors import DataError


def filled() -> Ledger:
    ledger = Ledger()
    ledger.read("a.csv", 10)
    ledger.keep("train", 6)
    ledger.keep("test", 2)
    ledger.drop("a.csv", 3, "empty text")
    ledger.drop("a.csv", 7, "also in test", "b.csv:2")
    ledger.cut("a.csv", 5, 12)
    ledger.tokens("train", 100, 12)
    ledger.note("leakage", "one text in both", rows=1)
    return ledger


def test_summary_accounts_for_every_row() -> None:
    summary = filled().summary()
    assert summary["rows"] == {"read": 10, "kept": 8, "dropped": 2}
    assert summary["dropped"]["empty text"] == {"rows": 1, "first": "a.csv:3"}
    assert summary["tokens"]["train"] == {"total": 100, "cut": 12, "kept": 88}
    assert summary["notes"] == [{"kind": "leakage", "message": "one text in both", "rows": 1}]
    assert json.loads(json.dumps(summary)) == summary


def test_a_ledger_that_does_not_add_up_says_so() -> None:
    ledger = filled()
    ledger.keep("test", 1)
    with pytest.raises(RuntimeError, match="10 rows read, 9 kept and 2 dropped"):
        ledger.summary()


def test_a_row_dropped_after_it_was_kept_is_taken_back() -> None:
    ledger = filled()
    ledger.drop("a.csv", 9, "no label", split="train")
    assert ledger.summary()["rows"] == {"read": 10, "kept": 7, "dropped": 3}
    assert ledger.summary()["splits"]["train"] == 5


def test_check_stops_with_reason_row_and_remedy() -> None:
    ledger = filled()
    ledger.check(0.2)
    with pytest.raises(DataError) as caught:
        ledger.check(0.1)
    message = str(caught.value)
    assert "2 of 10 rows" in message and "a.csv:3" in message
    assert "--data.max_dropped 0.2" in message and "\n" not in message


def test_written_whole_and_read_back(tmp_path: Path) -> None:
    filled().write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.json", "ledger.parquet"]
    assert json.loads((tmp_path / "ledger.json").read_text())["rows"]["read"] == 10
    events = pq.read_table(tmp_path / "ledger.parquet").to_pylist()
    assert events[1] == {
        "file": "a.csv",
        "line": 7,
        "event": "drop",
        "reason": "also in test",
        "tokens": 0,
        "detail": "b.csv:2",
    }
    assert (events[2]["event"], events[2]["line"], events[2]["tokens"]) == ("cut", 5, 12)


def test_an_empty_ledger_can_be_written(tmp_path: Path) -> None:
    Ledger().write(tmp_path)
    assert len(pq.read_table(tmp_path / "ledger.parquet")) == 0


def test_nothing_half_written_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        filled().write(tmp_path)
    assert not list(tmp_path.iterdir())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=50))
def test_read_is_kept_plus_dropped(events: list[tuple[str, bool]]) -> None:
    ledger = Ledger()
    for line, (name, kept) in enumerate(events):
        ledger.read(f"{name}.csv", 1)
        if kept:
            ledger.keep(name, 1)
        else:
            ledger.drop(f"{name}.csv", line, f"reason {name}")
    rows = ledger.summary()["rows"]
    assert rows["read"] == rows["kept"] + rows["dropped"] == len(events)
