"""What annotation tools and scripts write comes to rows of texts, or is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import warmstart
from warmstart.errors import DataError, RecipeError

Rows = Callable[..., SimpleNamespace]
Put = Callable[[str, str | bytes], Path]
SENTENCES = [(["Zoë", "is", "in", "New", "York"], ["B-PER", "O", "O", "B-LOC", "I-LOC"]),
             (["12", "NA"], ["O", "O"]), (["Hi", ","], ["O", "O"])]  # fmt: skip


def words(names: tuple[str, str, str], number: str = "{}", **more: Any) -> pd.DataFrame:
    return pd.DataFrame([
        dict(zip(names, (number.format(n), word, tag), strict=True)) | more
        for n, (tokens, tags) in enumerate(SENTENCES)
        for word, tag in zip(tokens, tags, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("names", "number"),
    [(("sentence_id", "words", "labels"), "{}"), (("Sentence #", "Word", "Tag"), "Sentence: {}"),
     (("sent_id", "token", "ner_tag"), "{}"), (("sentence_idx", "word", "tag"), "{}.0")],
)  # fmt: skip
def test_a_word_a_row_is_put_together(
    names: tuple[str, str, str], number: str, tmp_path: Path, rows: Rows
) -> None:
    words(names, number, doc="d1").to_csv(tmp_path / "a.csv", index=False)
    read = rows(tmp_path / "a.csv")
    assert [(row["tokens"], row[names[2]]) for row in read.rows] == SENTENCES
    assert [row["doc"] for row in read.rows] == ["d1"] * 3
    assert [row["_line"] for row in read.rows] == [2, 7, 9]
    (note,) = (note["message"] for note in read.ledger.notes if note["kind"] == "words")
    assert (
        f"9 rows of a word each were put together to 3 sentences by the column '{names[0]}'" in note
    )
    assert read.ledger.summary()["rows"]["read"] == 3 if not read.ledger.keep("train", 3) else False


def test_the_number_may_stand_beside_the_first_word_alone(rows: Rows) -> None:
    frame = words(("Sentence #", "Word", "Tag"), "Sentence: {}")
    repeated = frame["Sentence #"].eq(frame["Sentence #"].shift())
    frame["Sentence #"] = frame["Sentence #"].mask(repeated)
    assert rows(frame).table["tokens"].to_pylist() == [tokens for tokens, _ in SENTENCES]


def test_other_tables_with_such_columns_stay(rows: Rows) -> None:
    target = [{"sentence": "He sat at the bank", "word": "bank", "label": "1"}] * 3
    texts = [{"sentence_id": "1", "text": "Two words", "label": "a"}] * 3
    each = [{"sentence_id": str(i), "words": "a", "labels": "O"} for i in range(3)]
    for made in (target, texts, each):
        assert rows(made).table.drop_columns(["_file", "_line"]).to_pylist() == made


def test_words_without_their_sentence_are_refused(tmp_path: Path) -> None:
    frame = words(("nothing", "words", "labels"))
    pd.concat([frame] * 9).drop(columns="nothing").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match="every row holds a single word.*a column sentence_id"):
        warmstart.plan(tmp_path / "a.csv", task="tagging")


CONLL = "".join(
    "".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence, strict=True)) + "\n"
    for sentence in SENTENCES
)


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a", "a.conll"])
@pytest.mark.parametrize("mark", ["\t", " ", " NNP "])
def test_conll_is_known_by_its_content(name: str, mark: str, put: Put, rows: Rows) -> None:
    read = rows(put(name, "-DOCSTART- O\n\n" * (mark == " ") + CONLL.replace("\t", mark)))
    assert [(row["tokens"], row["tags"]) for row in read.rows] == SENTENCES


@pytest.mark.parametrize(
    "content", ["text\tlabel\na\tO\nb\tO\n", "I am fine O\n\nSo am I\n", "a\tb\n"]
)
def test_tables_and_plain_text_are_no_conll(content: str, put: Put) -> None:
    from warmstart.data.readers.files import format_of
    from warmstart.data.readers.text import is_plain

    assert format_of(put("a.txt", content)) == "delimited"
    assert is_plain(put("b.txt", content))
    assert not is_plain(put("c.txt", CONLL))


def studio(*results: Any, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": n, "data": {"text": f"{n} Zoë"}, "annotations": [{"result": result, **more}]}
        for n, result in enumerate(results)
    ]


def span(*labels: str) -> dict[str, Any]:
    return {"type": "labels", "value": {"start": 2, "end": 5, "text": "Zoë", "labels": labels}}


def choice(*names: str) -> dict[str, Any]:
    return {"type": "choices", "value": {"choices": list(names)}}


def test_label_studio(put: Put, rows: Rows) -> None:
    def of(content: Any) -> SimpleNamespace:
        return rows(put("a.json", json.dumps(content)))

    spans = of(studio([span("PER")], []))
    assert spans.table["text"].to_pylist() == ["0 Zoë", "1 Zoë"]
    assert spans.table["spans"].to_pylist() == [[{"start": 2, "end": 5, "label": "PER"}], []]
    assert of(studio([choice("a")], [choice("b")])).table["label"].to_pylist() == ["a", "b"]
    several = of(studio([choice("a", "b")], []))
    assert several.table["labels"].to_pylist() == [["a", "b"], []]
    text = {"type": "textarea", "value": {"text": ["An answer"]}}
    assert of(studio([text])).table["target"].to_pylist() == ["An answer"]
    with pytest.raises(DataError, match="export of Label Studio with results of the kinds rec"):
        of(studio([{"type": "rectanglelabels", "value": {"x": 1}}]))


def test_rows_that_nobody_annotated_are_dropped_with_the_reason(put: Put, rows: Rows) -> None:
    content = [
        *studio([choice("a")], [choice("b")]),
        {"id": 9, "data": {"text": "c"}, "annotations": []},
    ]
    content[1]["annotations"][0]["was_cancelled"] = True
    read = rows(put("a.json", json.dumps(content)))
    assert read.table["label"].to_pylist() == ["a"]
    read.ledger.keep("train", 1)
    read.ledger.check(0)
    dropped = read.ledger.summary()["dropped"]
    assert dropped["not annotated, or skipped, in Label Studio"]["rows"] == 2


def test_label_studio_in_short(put: Put, rows: Rows) -> None:
    content = [{"text": "a", "topic": {"choices": ["x", "y"]}}, {"text": "b", "topic": "x"}]
    read = rows(put("a.json", json.dumps(content)))
    assert read.table["topic"].to_pylist() == [["x", "y"], ["x"]]


def test_prodigy(rows: Rows) -> None:
    spans = [{"start": 0, "end": 1, "label": "PER"}]
    answers = ["accept", "reject", "ignore", "accept"]
    read = rows([{"text": f"a {n}", "spans": spans, "answer": a} for n, a in enumerate(answers)])
    assert read.table["text"].to_pylist() == ["a 0", "a 3"]
    read.ledger.keep("train", 2)
    read.ledger.check(0)  # a person said so: they do not count as lost
    assert {k: v["rows"] for k, v in read.ledger.summary()["dropped"].items()} == {
        "answer reject in Prodigy": 1, "answer ignore in Prodigy": 1,
    }  # fmt: skip


def test_prodigy_for_classes(rows: Rows) -> None:
    one = rows([{"text": a, "label": "SPAM", "answer": a} for a in ("accept", "reject", "ignore")])
    assert one.table["label"].to_pylist() == ["SPAM", "not SPAM"]
    options = [{"id": name, "text": name.upper()} for name in "xy"]
    base = {"options": options, "answer": "accept"}
    single = rows([{"text": c, "accept": [c], **base} for c in "xy"])
    assert single.table["label"].to_pylist() == ["x", "y"]
    several = rows([{"text": c, "accept": list(c), **base} for c in ("x", "xy")])
    assert several.table["labels"].to_pylist() == [["x"], ["x", "y"]]
    plain = [{"text": "a", "answer": "accept"}, {"text": "b", "answer": "reject"}]
    assert rows(plain).table.drop_columns(["_file", "_line"]).to_pylist() == plain  # no Prodigy


def test_spacy_tuples(put: Put, rows: Rows) -> None:
    tuples = [("Zoë lives", {"entities": [(0, 3, "PER")]}), ("Nobody", {"entities": []})]
    whole = json.dumps({"classes": ["PER"], "annotations": [*tuples, None]})
    files = (put("a.json", json.dumps(tuples)), put("b.json", whole))
    for read in (rows(tuples), *map(rows, files)):
        assert read.table["text"].to_pylist() == ["Zoë lives", "Nobody"]
        assert read.table["spans"].to_pylist() == [[{"start": 0, "end": 3, "label": "PER"}], []]
    cats = rows([("a", {"cats": {"x": 1.0, "y": 0.0}}), ("b", {"cats": {"x": 1, "y": 1}})])
    assert cats.table["labels"].to_pylist() == [["x"], ["x", "y"]]


def test_questions_under_their_passages(put: Put, rows: Rows) -> None:
    def question(n: int) -> dict[str, Any]:
        answer = {"text": "Bath", "answer_start": 5}
        return {"id": f"{n}", "is_impossible": False, "question": f"{n}?", "answers": [answer]}

    passages = [{"context": "From Bath", "qas": [question(1), question(2)]}]
    articles = [{"title": "t", "paragraphs": passages}]
    files = [put(f"{n}.json", json.dumps(made)) for n, made in enumerate([passages, articles])]
    for read in (rows(passages), *map(rows, files)):
        assert read.table["question"].to_pylist() == ["1?", "2?"]
        assert read.table["context"].to_pylist() == ["From Bath"] * 2
        assert read.table["answers"][0].as_py() == {"text": ["Bath"], "answer_start": [5]}


def test_lists_of_positives_and_negatives(put: Put, rows: Rows) -> None:
    made = [
        {"query": "a", "pos": ["b", "c"], "neg": ["d", "e"]},
        {"query": "f", "pos": ["g"], "neg": []},
        {"query": "h", "pos": [], "neg": ["i"]},
    ]
    read = rows(put("a.jsonl", "\n".join(map(json.dumps, made))))
    names = ["query", "positive", "negative_1", "negative_2"]
    assert list(zip(*(read.table[name].to_pylist() for name in names), strict=True)) == [
        ("a", "b", "d", "e"), ("a", "c", "d", "e"), ("f", "g", "", "")
    ]  # fmt: skip
    assert read.table["_line"].to_pylist() == [1, 1, 2]
    read.ledger.keep("train", 3)
    assert read.ledger.summary()["dropped"]["empty pos"]["first"].endswith("a.jsonl:3")
    tagged = [{"text": "a b", "pos": ["DT", "NN"]}]
    assert rows(tagged).table["pos"].to_pylist() == [["DT", "NN"]]


def test_what_is_not_read_is_called_by_its_name(put: Put, rows: Rows) -> None:
    for name, words in (("a.spacy", "a DocBin of spaCy"), ("a.ann", "annotations of brat")):
        with pytest.raises(RecipeError, match=f"{name} is {words}.*save it as JSONL"):
            rows(put(name, "T1\tPER 0 3\tZoë\n"))
