"""A corpus: what a document is, what is held out, what is left out and why."""

from __future__ import annotations

import gzip
import json
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from warmstart.data.corpus import Documents, load_corpus
from warmstart.data.ledger import Ledger
from warmstart.data.quality import fault
from warmstart.data.settings import Data
from warmstart.data.splitting import Splits
from warmstart.errors import DataError

WORDS = "river stone light paper garden winter letter morning horse window bread silver".split()


def prose(seed: int, words: int = 60) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(words)) + ".\n"


def load(path: Path, unit: Any = "file", *, quality: bool = False, **settings: Any) -> Any:
    ledger = Ledger()
    data = Data(path=str(path), **{"validation_fraction": 0.1, "test_fraction": 0.1, **settings})
    splits = load_corpus(data, Documents(unit, quality=quality), 0, ledger)
    return splits, ledger.summary()


def texts(splits: Splits) -> dict[str, list[str]]:
    return {name: getattr(splits, name)["text"].to_pylist()
            for name in ("train", "validation", "test")}  # fmt: skip


def folder_of(folder: Path, documents: dict[str, str]) -> Path:
    for name, text in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_every_file_of_a_folder_is_a_document(tmp_path: Path) -> None:
    documents = {f"{i:02}/book.txt": prose(i) for i in range(20)}
    splits, summary = load(folder_of(tmp_path, documents))
    found = texts(splits)
    assert {name: len(some) for name, some in found.items()} == {
        "train": 16, "validation": 2, "test": 2
    }  # fmt: skip
    assert sorted(chain(*found.values())) == sorted(documents.values())
    assert summary["rows"] == {"read": 20, "kept": 20, "dropped": 0}


def test_folders_named_for_their_splits(tmp_path: Path) -> None:
    documents = {"train/a.txt": prose(0), "train/b.md": prose(1), "valid/c.txt": prose(2),
                 "test.txt": prose(3), "notes.txt": prose(4)}  # fmt: skip
    splits, _ = load(folder_of(tmp_path, documents))
    assert texts(splits) == {
        "train": [prose(0), prose(1)], "validation": [prose(2)], "test": [prose(3)]
    }  # fmt: skip
    assert splits.given == {"train": True, "validation": True, "test": True}


def test_of_a_single_document_the_end_is_held_out(tmp_path: Path) -> None:
    whole = "".join(prose(i) for i in range(50))
    (tmp_path / "book.txt").write_text(whole)
    splits, summary = load(tmp_path / "book.txt")
    (train,), (validation,), (test,) = texts(splits).values()
    assert train + validation + test == whole
    assert abs(len(test) / len(whole) - 0.1) < 0.03 and abs(len(train) / len(whole) - 0.8) < 0.03
    lines = [getattr(splits, name)["_line"].to_pylist() for name in ("train", "validation", "test")]
    assert lines == [[1], [whole[: len(train)].count("\n") + 1],
                     [(train + validation).count("\n") + 1]]  # fmt: skip
    assert "of each the last 20% is held out" in str(summary["notes"])
    assert summary["rows"]["read"] == summary["rows"]["kept"] == 3


@pytest.mark.parametrize("unit", ["file", "paragraph", "line"])
def test_what_a_document_is_in_plain_text(tmp_path: Path, unit: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\n \r\nthree\r\n\r\nfour\r\n")
    settings = {"validation_fraction": 0, "test_fraction": 0, "similarity": 0}
    found = texts(load(tmp_path / "a.txt", unit, **settings)[0])["train"]
    assert found == {
        "file": ["one\ntwo\n\n \nthree\n\nfour\n"], "paragraph": ["one\ntwo", "three", "four"],
        "line": ["one", "two", "three", "four"],
    }[unit]  # fmt: skip


def test_packed_files_patterns_and_a_limit(tmp_path: Path) -> None:
    """Text that is packed is text, a pattern may stand in a list, and each file gives the first so
    many documents."""
    lines = [prose(i) for i in range(24)]
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write("".join(lines[:12]))
    (tmp_path / "b.txt").write_text("".join(lines[12:]))
    splits, _ = load(tmp_path / "a.txt.gz", "line")
    assert sorted(chain(*texts(splits).values())) == sorted(line.rstrip() for line in lines[:12])
    splits, _ = load(tmp_path, "line", limit=10)
    found = sorted(chain(*texts(splits).values()))
    assert found == sorted(line.rstrip() for line in [*lines[:10], *lines[12:22]])
    data = Data(validation_fraction=0, test_fraction=0)
    source = [str(tmp_path / "*.txt"), str(tmp_path / "a.txt.gz")]
    assert len(load_corpus(data, Documents("line"), 0, Ledger(), source).train) == 24
    rows = iter([{"text": prose(i)} for i in range(11)] + [{"text": None}])
    ledger = Ledger()
    assert len(load_corpus(data, Documents(), 0, ledger, rows).train) == 11
    assert ledger.summary()["dropped"]["empty"]["first"] == "stream:12"


def test_rows_of_a_table_are_documents(tmp_path: Path) -> None:
    rows = [json.dumps({"title": str(i), "text": prose(i)}) for i in range(12)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:10]))
    (tmp_path / "validation.jsonl").write_text("\n".join(rows[10:]))
    splits, _ = load(tmp_path)
    found = texts(splits)
    assert len(found["validation"]) == 2 and len(found["test"]) == 1
    assert sorted(chain(*found.values())) == sorted(prose(i) for i in range(12))


def test_copies_of_held_out_documents_and_of_others_leave_train(tmp_path: Path) -> None:
    """The held-out documents are chosen first: a copy of one of them is never trained on."""
    near = prose(3).replace("river", "rivers", 1)
    documents = {"train/a.txt": prose(1), "train/b.txt": prose(1).upper(), "train/c.txt": prose(2),
                 "train/d.txt": near, "validation/v.txt": prose(3),
                 "test/t.txt": prose(4), "train/e.txt": prose(4)}  # fmt: skip
    splits, summary = load(folder_of(tmp_path, documents))
    assert texts(splits)["train"] == [prose(1), prose(2)]
    reasons = {reason: told["rows"] for reason, told in summary["dropped"].items()}
    assert reasons == {"also in test, or nearly": 1, "also in validation, or nearly": 1,
                       "repeats an earlier document": 1}  # fmt: skip
    assert summary["rows"] == {"read": 7, "kept": 4, "dropped": 3}


def test_a_copy_is_told_with_the_document_that_it_repeats(tmp_path: Path) -> None:
    """Exact and near ones by different reasons, in the file with every single event."""
    near = prose(1).replace("river", "rivers", 1)
    folder_of(tmp_path / "c", {"train/a.txt": prose(1), "train/b.txt": prose(1).upper(),
                               "train/c.txt": near, "test/t.txt": prose(4)})  # fmt: skip
    ledger = Ledger()
    data = Data(path=str(tmp_path / "c"), validation_fraction=0)
    load_corpus(data, Documents(), 0, ledger)
    ledger.write(tmp_path)
    events = pq.read_table(tmp_path / "ledger.parquet").to_pylist()
    assert [(Path(one["file"]).name, one["reason"]) for one in events] == [
        ("b.txt", "repeats an earlier document"), ("c.txt", "repeats an earlier document, nearly"),
    ]  # fmt: skip
    assert all(one["detail"].endswith("a.txt:1") for one in events)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (prose(0), None),
        (prose(0, 40), "quality: fewer than 50 words"),
        (prose(0, 100_001), "quality: more than 100,000 words"),
        ("I a b c d e f g h i " * 20, "quality: words of less than 3 characters"),
        ("incomprehensibilities " * 60, "quality: words of more than 10 characters"),
        (prose(3).replace(" ", " 1234 "), "quality: more than a fifth of its words have no letter"),
        ("home page login\n" * 30 + prose(1), "quality: more than three of ten lines are repeated"),
        (
            prose(4, 30) * 2 + "".join(prose(i, 9) for i in range(9)),
            "quality: more than a fifth of it is repeated lines",
        ),
        (
            "".join(f"{prose(i, 16)[:-2]}...\n" for i in range(9)),
            "quality: three lines of ten break off with …",
        ),
        (
            "\n".join(f"bread and {prose(i, 2)[:-2]}" for i in range(40)),
            "quality: the same 2 words again and again",
        ),
        (
            " ".join(prose(i, 8)[:-2] + " " + prose(i, 8)[:-2] for i in range(12)),
            "quality: runs of 5 words are repeated",
        ),
        (
            "".join(f"- {prose(i, 8)}" for i in range(9)),
            "quality: nine lines of ten are list items",
        ),
        (prose(2).replace(" ", " #", 40), "quality: more than one # or … for ten words"),
        ("漢字仮名交じりの文章です。" * 30, None),
    ],
)
def test_what_is_hardly_text(text: str, reason: str | None) -> None:
    assert fault(text) == reason


def test_filtered_documents_stand_in_the_ledger(tmp_path: Path) -> None:
    documents = {f"train/{i}.txt": prose(i) for i in range(5)} | {
        "train/menu.txt": "home page login\n" * 30, "train/void.txt": " \n", "test/a.txt": prose(9),
        "validation/b.txt": prose(8)}  # fmt: skip
    splits, summary = load(folder_of(tmp_path, documents), quality=True)
    assert len(splits.train) == 5
    assert summary["dropped"]["empty"]["first"].endswith("void.txt:1")
    assert summary["dropped"]["quality: more than three of ten lines are repeated"]["rows"] == 1


def test_a_corpus_without_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="empty"):
        load(tmp_path / "a.txt")
    folder_of(tmp_path / "held", {"test/a.txt": prose(0)})
    with pytest.raises(DataError, match="holds documents for test and none to train on"):
        load(tmp_path / "held")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(prose(99))
    corpus = folder_of(tmp_path / "corpus", {f"{i}.txt": prose(i) for i in range(3)})
    (corpus / "z.txt").symlink_to(tmp_path / "secret.txt")
    splits, summary = load(corpus)
    assert prose(99) not in "".join(chain(*texts(splits).values()))
    assert summary["files"].keys() - {"(documents that were cut in parts)"} == {
        str(corpus / f"{i}.txt") for i in range(3)
    }


def test_a_corpus_may_come_in_many_ways(tmp_path: Path) -> None:
    """Paths in a list are files and not texts; patterns, streams and dictionaries are documents."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"document number {number} has a text of its own")
    (tmp_path / "more.jsonl").write_text('{"content": "one more document in a table"}\n')
    every = [str(tmp_path / f"{number}.txt") for number in range(3)]
    settings = Data(validation_fraction=0, test_fraction=0)

    def read(source: Any, **more: Any) -> list[str]:
        ledger = Ledger()
        how = settings.model_copy(update=more)
        splits = load_corpus(how, Documents(names=("text", "content")), 0, ledger, source)
        ledger.summary()
        return splits.train["text"].to_pylist()

    texts = [Path(file).read_text() for file in every]
    assert read(every) == read(str(tmp_path / "*.txt")) == texts
    assert read([*every, tmp_path / "more.jsonl"]) == [*texts, "one more document in a table"]
    assert read(iter(texts)) == read(tuple(texts)) == read({"text": t} for t in texts) == texts
    assert read((t for t in texts), limit=2) == texts[:2]
    with pytest.raises(DataError, match=r"no file .*4.txt"):
        read([*every, str(tmp_path / "4.txt")])
    with pytest.raises(DataError, match="document 2 of the stream is no text"):
        read(iter(["a", 3]))
    ledger = Ledger()
    load_corpus(settings.model_copy(update={"path": str(tmp_path)}), Documents(), 0, ledger)
    assert any("1 table beside the text files" in text for text in ledger.loud)
