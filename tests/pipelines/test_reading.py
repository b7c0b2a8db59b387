"""A run remembers how its data were read; what was read, and what was not, is on the screen."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import warmstart
from tiny import tiny
from warmstart.cli.main import main
from warmstart.errors import DataError, RecipeError

WORDS = {"pos": ["good", "great", "fine"], "neg": ["bad", "poor", "dull"]}
KEYS: dict[str, Any] = {
    "method": "frozen", "train.epochs": 3, "evaluate.bootstrap": 100, "evaluate.baselines": False,
    "evaluate.forgetting": False, "data.similarity": 0,
}  # fmt: skip


def written(path: Path, labels: dict[str, list[str]] | None = None, mark: str = ",") -> Path:
    """A file whose `title` says nothing, and whose `full_message` says the `team`."""
    rows: list[list[str]] = []
    for i in range(60):
        name = "pos" if i % 2 else "neg"
        spellings = (labels or {}).get(name, [name])
        said = f"a {WORDS[name][i % 3]} film, number {i}"
        rows.append([f"ticket {i}", said, spellings[i % len(spellings)]])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=mark).writerows([["title", "full_message", "team"], *rows])
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny("bert", tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Any:
    """A run whose columns were named, its data beside it."""
    folder = tmp_path_factory.mktemp("named")
    columns = {"data.columns.text": "full_message", "data.columns.label": "team"}
    data = written(folder / "t.csv", mark=";")
    return warmstart.tune(data, base=base, out=folder / "run", **columns, **KEYS)


def test_the_model_keeps_how_its_data_were_read(named: Any) -> None:
    note = json.loads((named.model / "warmstart.json").read_text(encoding="utf-8"))
    assert note["data"] == {
        "columns": {"text": "full_message", "label": "team"},
        "encoding": "utf-8", "delimiter": ";", "header": True, "merge_labels": False,
    }  # fmt: skip


def test_predict_reads_the_column_of_the_run(named: Any, tmp_path: Path) -> None:
    data, notes = named.path.parent / "t.csv", list[str]()
    warmstart.predict(named.path, data, out=tmp_path / "o.csv", notes=notes)
    warmstart.predict(
        named.path, data, out=tmp_path / "p.csv", **{"data.columns.text": "full_message"}
    )
    answers = [pd.read_csv(tmp_path / f"{name}.csv")["prediction"].tolist() for name in "op"]
    assert answers[0] == answers[1]
    reading = [note for note in notes if "unknown to the model's tokenizer" not in note]
    assert reading == [f"{data} (UTF-8, semicolon): text = full_message; not read: title, team"]
    other = tmp_path / "other.csv"
    other.write_text("text\na good film\n", encoding="utf-8")
    notes.clear()
    warmstart.predict(named.path, other, notes=notes)
    assert len(notes) == 1 and "no column 'full_message', from which the model learned" in notes[0]


def test_evaluate_reads_the_columns_of_the_run(named: Any) -> None:
    figures = warmstart.evaluate(named.path, named.path.parent / "t.csv")
    assert figures["rows"] == 60
    assert "label = team; not read: title" in figures["notes"][-1]


def test_a_series_and_an_array_are_texts(named: Any) -> None:
    texts = pd.Series(["a good film", "a bad film"])
    answers = [answer.value for answer in named.predict(texts)]
    assert answers == [answer.value for answer in named.predict(texts.tolist())]
    assert [a.value for a in warmstart.predict(named.path, texts.to_numpy())] == answers


def test_merged_labels_are_merged_when_the_model_is_scored(base: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "case.csv", {"pos": ["Pos", "pos "], "neg": ["NEG", "neg", "Neg"]})
    columns = {"data.columns.text": "full_message", "data.columns.label": "team"}
    with pytest.raises(DataError, match="--data.merge_labels true"):
        warmstart.plan(data, base=base, **columns, **KEYS)
    run = warmstart.tune(
        data, base=base, out=tmp_path / "run", **columns, **{"data.merge_labels": True}, **KEYS
    )
    assert len(run.labels) == 2
    assert warmstart.evaluate(run, data)["rows"] == 60
    assert warmstart.evaluate(run, data, **{"data.merge_labels": True})["rows"] == 60


def test_merging_is_refused_where_it_does_nothing(base: Path) -> None:
    rows = [{"text": f"a film {i}", "labels": ["a", "b"][: i % 3]} for i in range(30)]
    with pytest.raises(RecipeError, match="task multilabel has no such label"):
        warmstart.plan(rows, task="multilabel", base=base, **{"data.merge_labels": True})


def test_a_saved_separator_is_used_again(base: Path, tmp_path: Path) -> None:
    sets = ["a;b", "b", "a", "a;c", "c"]
    rows = [{"text": f"a film {i} {sets[i % 5]}", "labels": sets[i % 5]} for i in range(40)]
    run = warmstart.tune(rows, task="multilabel", base=base, out=tmp_path / "run", **KEYS)
    note = json.loads((run.model / "warmstart.json").read_text(encoding="utf-8"))
    assert note["task"]["separator"] == ";"
    assert any("parted by ';'" in note["message"] for note in run.ledger["notes"])


def test_tune_says_what_it_read_before_it_trains(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"zażółć gęślą jaźń, proszę nr {i}", f"tytuł {i}", "ab"[i % 2]) for i in range(40)]
    lines = "\n".join(";".join(row) for row in [("text", "title", "label"), *rows])
    Path("pl.csv").write_bytes(lines.encode("cp1250"))
    words = "tune pl.csv --method frozen --train.epochs 1 --evaluate.bootstrap 100 --out run"
    assert main([*words.split(), "--base", str(base), "--data.similarity", "0"]) == 0
    error = capsys.readouterr().err
    before = error[: error.index("epoch 1")]
    assert "pl.csv (cp1250, semicolon): text = text, label = label; not read: title" in before
    assert "cp1250 is a guess" in before and "zażółć" in before
    assert "could be the text too" in before


def test_unknown_tokens_are_accounted_for(base: Path) -> None:
    thai = [{"text": f"ขอคืนเงิน ค่าส่ง {i}", "label": "ab"[i % 2]} for i in range(40)]
    plan = warmstart.plan(thai, base=base, **KEYS)
    (note, *_) = [note for note in plan["ledger"]["notes"] if note["kind"] == "unknown"]
    assert note["loud"] and note["share"] > 0.5
    assert (
        "of the tokens of train are unknown" in note["message"] and "“ขอคืนเงิน”" in note["message"]
    )


def test_targets_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    base = tiny("t5", tmp_path / "t5")
    rows = [{"source": f"a good film {i}", "target": "{a film}" if i % 2 else "a film"}
            for i in range(40)]  # fmt: skip
    plan = warmstart.plan(rows, task="text2text", base=base, **{"data.similarity": 0})
    notes = [n["message"] for n in plan["ledger"]["notes"] if n["kind"] == "unknown"]
    (said,) = [text for text in notes if "targets of train" in text]
    assert "can never be right" in said and "“{a”" in said


def test_an_inspection_reads_past_bad_rows(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = [f"a {WORDS['pos'][i % 3]} film é number {i},{'ab'[i % 2]}" for i in range(40)]
    lines = ["text,label", *good[:20], "ragged", "text,label", *good[20:], "a,b,c"]
    Path("d.csv").write_bytes("\n".join(lines).encode() + b"\nbr\xffken,a\n")
    with pytest.raises(DataError, match=r"d\.csv:45: bytes that are not utf-8.*--data\.bad_rows"):
        warmstart.plan("d.csv", base=base, **KEYS)
    words = f"inspect d.csv --base {base} --features false --out out --fix clean.csv"
    assert main(words.split()) == 0
    out = capsys.readouterr().out
    assert "2 rows cannot be read: wrong number of fields (d.csv:22, d.csv:44)" in out
    with Path("out/bad_rows.csv").open(encoding="utf-8", newline="") as file:
        assert [int(row["line"]) for row in csv.DictReader(file)] == [22, 23, 44, 45]
    with Path("clean.removed.csv").open(encoding="utf-8", newline="") as file:
        removed = {int(row["removed_line"]): row["removed_because"] for row in csv.DictReader(file)}
    assert removed[45] == "bytes that are not utf-8" and removed[22].startswith("wrong number")
    plan = warmstart.plan("clean.csv", base=base, **KEYS)
    assert plan["ledger"]["rows"] == {"read": 40, "kept": 40, "dropped": 0}
    plan = warmstart.plan("d.csv", base=base, **{"data.bad_rows": "skip"}, **KEYS,
                          **{"data.max_dropped": 0.2})  # fmt: skip
    assert plan["ledger"]["rows"] == {"read": 44, "kept": 40, "dropped": 4}


def test_several_columns_are_one_text_when_asked_as_when_learned(
    tmp_path: Path, base: Path
) -> None:
    columns = {"data.columns.text": "title,full_message", "data.columns.label": "team"}
    data = written(tmp_path / "t.csv")
    run = warmstart.tune(data, base=base, out=tmp_path / "run", **columns, **KEYS)
    with data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [f"{row['title']}\n{row['full_message']}" for row in rows]
    answers = [(answer.value, answer.scores) for answer in run.predict(texts)]
    notes: list[str] = []
    assert [(a.value, a.scores) for a in warmstart.predict(run, data, notes=notes)] == answers
    assert any("text = title,full_message" in note for note in notes)
    seen = warmstart.inspect(data, out=tmp_path / "seen", features=False, **columns)
    roles = {column["column"]: column["role"] for column in seen.summary["columns"]}
    assert roles == {"title": "text", "full_message": "text", "team": "label"}


def test_labels_of_a_language_that_the_base_does_not_know_are_not_judged(tmp_path: Path) -> None:
    ends = ["und die Rechnung war falsch", "aber die Lieferung kam verspätet an",
            "weil das Gerät nicht mehr eingeschaltet werden konnte"]  # fmt: skip
    rows = [
        {"text": f"Sehr geehrte Damen und Herren, ich schreibe Ihnen zum {i}. Mal, {ends[i % 3]}",
         "label": "abc"[i % 3]}
        for i in range(60)
    ]  # fmt: skip
    seen = warmstart.inspect(rows, out=tmp_path / "de", **{"data.similarity": 0})
    assert "the texts are German" in seen.summary["noise"]["skipped"]
    (finding,) = [one for one in seen.findings if one["kind"] == "not_judged"]
    assert "cannot tell which labels are wrong" in finding["message"]
    english = [
        {"text": f"Dear all, I am writing for time {i}, {'bill' if i % 2 else 'parcel'} was wrong",
         "label": "ab"[i % 2]}
        for i in range(60)
    ]  # fmt: skip
    seen = warmstart.inspect(english, out=tmp_path / "en", **{"data.similarity": 0})
    assert "skipped" not in seen.summary["noise"]
