"""`warmstart.inspect` looks at the data of every task, and at rows that none learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

import warmstart
from chats import talker
from warmstart.errors import DataError, RecipeError

Row = dict[str, Any]
TOKENS: Row = {"tokens": ["Zoë", "is", "in", "Bath"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]}
BROKEN: Row = {"tokens": ["in", "Bath"], "ner_tags": ["O", "I-PER"]}
ASKED: Row = {"context": "From Bath to York.", "question": "Where?", "answers": [{"text": "Bath"}]}
ABSENT: Row = {**ASKED, "answers": [{"text": "Oslo"}]}
OF_TASKS: dict[str, tuple[list[Row], str, set[str]]] = {
    "tagging": ([TOKENS] * 3 + [BROKEN], "7 of 2 types", {"mixed_types", "broken_tags"}),
    "extractive_qa": ([ASKED] * 9 + [ABSENT], "9 on 1 passage", {"left_out"}),
    "pairs": (
        [{"sentence1": "a b", "sentence2": "c", "label": "x"},
         {"sentence1": "c", "sentence2": "a b", "label": "y"},
         {"sentence1": "c", "sentence2": "c", "label": "y"}],
        "3; 1 and 1 words", {"equal_pair", "turned_pair"}),
    "regression": (
        [{"text": f"a {n}", "label": 0.5 if n < 30 else float(n)} for n in range(40)],
        "0.5 to 39", {"one_score"}),
    "multilabel": (
        [{"text": f"a {n}", "labels": ["x", "y"] if n else ["z"]} for n in range(9)],
        "1.89 labels a row", {"rare_kind"}),
    "text2text": (
        [{"source": f"word {n} and more", "target": f"word {n % 7}"} for n in range(20)]
        + [{"source": "the same", "target": "the same"}],
        "2 words in the middle, 0.50 times", {"copied_target"}),
    "embedding": (
        [{"anchor": f"a {n}", "positive": "a 0", "negative": "a 1"} for n in range(5)],
        "5 of text and other and negative", {"equal_pair", "wrong_negative"}),
    "preferences": (
        [{"prompt": f"a {n}?", "chosen": "long answer", "rejected": "no"} for n in range(5)],
        "5; the better answer is the longer one in 100 %", {"length_bias"}),
    "chat": (
        [{"messages": [{"role": "user", "content": f"Hi {n}"}] * 2} for n in range(5)],
        "10 in 5 conversations, 2 each", {"odd_turns"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_TASKS)
def test_what_belongs_to_a_text_is_looked_at(tmp_path: Path, kind: str) -> None:
    rows, words, kinds = OF_TASKS[kind]
    seen = warmstart.inspect(rows, out=tmp_path / "out", features=False)
    assert seen.lines["read for"].startswith(f"{kind}, by the columns")
    assert any(line.startswith(words) for line in seen.lines.values()), seen.lines
    assert kinds <= {finding["kind"] for finding in seen.findings}
    assert "no_label" not in {finding["kind"] for finding in seen.findings}
    assert seen.summary["task"]["name"] == kind
    page = seen.report.read_text()
    assert f"The rows are read for {kind}." in page and words in page


def test_kinds_by_split_and_rows_that_tune_leaves_out(tmp_path: Path) -> None:
    other = {"tokens": ["a"], "ner_tags": ["B-NEW"]}
    parts = {"train": [TOKENS] * 6, "test": [TOKENS, other]}
    data = {split: datasets.Dataset.from_list(rows) for split, rows in parts.items()}
    seen = warmstart.inspect(datasets.DatasetDict(data), out=tmp_path / "a", features=False)
    assert seen.tables["kinds"].to_dict("records")[0] == {"kind": "PER", "train": 6, "test": 1}
    found = {finding["kind"]: finding for finding in seen.findings}
    assert "NEW" in found["unknown_kind"]["message"]
    seen = warmstart.inspect([ASKED] * 9 + [ABSENT], out=tmp_path / "b", features=False)
    (left,) = (finding for finding in seen.findings if finding["kind"] == "left_out")
    assert left["rows"] == 1 and "the answer does not stand in the context" in left["message"]


def test_plain_text_and_columns_that_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("It was a night.\n\nAnd it rained.\n")
    seen = warmstart.inspect(tmp_path / "books", out=tmp_path / "a", features=False)
    assert seen.summary["rows"] == 2 and seen.lines["read for"] == "plain text"
    assert seen.lines["read"] == f"2 rows of {tmp_path / 'books' / 'a.txt'}"
    assert [words for words, _ in seen.next] == [
        f"warmstart pretrain {seen.summary['data']} --dry-run"
    ]
    assert not any("--fix" in finding["remedy"] for finding in seen.findings)
    pairs = [{"prompt": "a", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(9)]
    assert warmstart.inspect(pairs, out=tmp_path / "p", features=False).next == []
    rows = [{"good": f"A longer text {n}", "kind": "ab"[n % 2]} for n in range(30)]
    with pytest.raises(DataError, match="warmstart inspect DATA .*--data.columns.text good"):
        warmstart.inspect(rows, out=tmp_path / "b")
    with pytest.raises(RecipeError, match="--fix and --split write copies of single texts"):
        warmstart.inspect([ASKED], out=tmp_path / "c", fix=tmp_path / "d.csv")


def test_conversations_are_looked_at_through_the_template_that_is_named(tmp_path: Path) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    turns = [{"role": "user", "content": "a"}, call, {"role": "tool", "content": "b"},
             {"role": "assistant", "content": "c"}]  # fmt: skip
    rows = [{"messages": turns}] * 4
    base = talker(tmp_path / "talker")
    seen = warmstart.inspect(
        rows,
        base=str(base),
        out=tmp_path / "a",
        features=False,
        task="chat",
        **{"task.template": "plain"},
    )
    (lost,) = (finding for finding in seen.findings if finding["kind"] == "unwritten")
    assert lost["message"].startswith("4 rows cannot be learned from: the data have tools")
    assert seen.next[-1][0] == f"warmstart tune DATA --base {base} --dry-run"
    seen = warmstart.inspect(
        rows, base=str(base), out=tmp_path / "b", features=False, task="chat",
        **{"task.template": "chatml"},
    )  # fmt: skip
    assert seen.lines["template"].startswith("chatml; ")
