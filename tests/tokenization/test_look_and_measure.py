"""`show` and `compare`: what is said of a text, and of many."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tokenization.corpora import TEXTS, trained
from warmstart.errors import BaseModelError, DataError, RecipeError, UnknownNameError
from warmstart.pipelines.tokenizers import compare, show, train
from warmstart.tokenization.comparison import look, measure, open_one
from warmstart.tokenization.corpus import Corpus
from warmstart.tokenization.settings import Reading


def test_show_gives_what_transformers_gives(tiny_of: Callable[[str], Path]):
    text = "The good film was not 🙂 unbelievably bad."
    folder = tiny_of("roberta")
    for name, path in (("minilm", open_folder()), (str(folder), folder)):
        (found,) = show(text, tokenizers=[name])
        theirs = AutoTokenizer.from_pretrained(path)(text, return_offsets_mapping=True)
        assert [p["id"] for p in found["pieces"]] == theirs.input_ids
        assert [(p["start"], p["end"]) for p in found["pieces"]] == theirs.offset_mapping


def open_folder() -> Path:
    from warmstart.models.base import folder_of

    return folder_of("minilm")


def test_unknown_special_and_lost_are_told_apart():
    found = look("[CLS] the 🙂 [UNK] caf\u0301e \x00", open_one("minilm"))
    marks = {p.text: (p.unknown, p.special) for p in found.pieces if p.text}
    assert marks["🙂"] == (True, False)
    assert marks["[CLS]"] == (False, True)
    assert marks["[UNK]"] == (False, True)
    assert marks["the"] == (False, False)
    assert found.lost == ["\x00"]
    assert found.unknown == 1
    bare = found.pieces[0]
    assert (bare.piece, bare.special, bare.text) == ("[CLS]", True, "")


def test_kinds_are_trained_on_the_corpus_and_minilm_stands_beside_them(tmp_path: Path):
    (tmp_path / "c.txt").write_text("\n".join(TEXTS))
    found = show("the parcel", corpus=[str(tmp_path / "c.txt")], vocab_size=600)
    assert [one["tokenizer"] for one in found] == [
        "minilm", "char", "word", "bpe", "wordpiece", "unigram",
    ]  # fmt: skip
    assert [p["piece"] for p in found[1]["pieces"]] == list("the parcel")
    assert [p["piece"] for p in found[2]["pieces"]] == ["the", "parcel"]
    assert found[3]["kind"] == "BPE on bytes"


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("bpe", RecipeError, "give --corpus"),
        ("minlm", UnknownNameError, "Did you mean 'minilm'"),
        ("./nowhere", BaseModelError, "no folder './nowhere'"),
        ("empty", BaseModelError, "holds no tokenizer.json"),
        ("broken", BaseModelError, "cannot be read"),
    ],
)
def test_a_tokenizer_that_is_not_there(
    names: str, error: type[Exception], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/tokenizer.json").write_text("{}")
    with pytest.raises(error, match=message):
        show("a text", tokenizers=names)


def test_nothing_to_show_is_refused():
    with pytest.raises(RecipeError, match="no text to show"):
        show("")


def test_measures_against_a_slow_count():
    """Each figure once more, text by text, with the plain calls of `tokenizers`."""
    tokenizers = [trained("wordpiece", "off"), trained("bpe", "level"), trained("word", "off")]
    texts = ["the parcel 🙂 never came", "  my order  ", "xyzzy qwerty", "", "the the the"]
    rows = measure(tokenizers, Corpus([texts], Reading()), max_length=4)
    assert {row.group for row in rows} == {"<list>"} and len(rows) == 3
    plain = [text.strip() for text in texts if text.strip()]
    for row, one in zip(rows, tokenizers, strict=True):
        ids = [one.backend.encode(text, add_special_tokens=False).ids for text in plain]
        flat = [i for row_ids in ids for i in row_ids]
        over = [max(len(i) - 4, 0) for i in ids]
        assert row.texts == 4 and row.tokens == len(flat)
        assert row.fertility == len(flat) / 12
        assert row.characters_per_token == sum(map(len, plain)) / len(flat)
        assert row.unknown_rate == (flat.count(one.unknown) / len(flat) if one.unknown else 0)
        assert row.cut_rate == sum(x > 0 for x in over) / 4
        assert row.cut_tokens == sum(over) / len(flat)
        assert row.vocabulary_used == len(set(flat)) / one.size
        assert row.tokens_per_second > 0


def test_special_tokens_count_for_the_length_and_not_for_fertility():
    minilm = open_one("minilm")
    (row,) = measure([minilm], Corpus([["one two"]], Reading()), max_length=3)
    assert (row.tokens, row.fertility, row.cut_rate) == (2, 1.0, 1.0)
    (row,) = measure([minilm], Corpus([["one two"]], Reading()), max_length=4)
    assert row.cut_rate == 0


def test_groups_are_languages_columns_or_files(tmp_path: Path):
    table = tmp_path / "t.csv"
    table.write_text("text,other,language\none two,eins,en\ndrei vier,x,de\nthree,y,en\n")
    (tmp_path / "p.txt").write_text("some words\n\nmore\n")
    by = compare(table, tokenizers="minilm", by="language")
    assert [(row["group"], row["texts"]) for row in by] == [("en", 2), ("de", 1), ("all", 3)]
    assert by[-1]["tokens"] == by[0]["tokens"] + by[1]["tokens"]
    columns = compare(table, tokenizers="minilm", column="text,other")
    assert [row["group"] for row in columns] == ["text", "other", "all"]
    files = compare([table, tmp_path / "p.txt"], tokenizers="minilm")
    assert [(row["group"], row["texts"]) for row in files] == [
        ("t.csv", 3), ("p.txt", 2), ("all", 5),
    ]  # fmt: skip
    with pytest.raises(DataError, match=re.escape("no column 'lang'. Did you mean 'language'")):
        compare(table, tokenizers="minilm", by="lang")
    with pytest.raises(RecipeError, match="plain text and has no column"):
        compare(tmp_path / "p.txt", tokenizers="minilm", by="lang")


def test_texts_without_spaces_have_no_fertility(shared_data: Path):
    rows = compare(shared_data / "sib200" / "test.csv", tokenizers="minilm", by="language")
    found = {row["group"]: row for row in rows}
    no_words = {group for group, row in found.items() if row["fertility"] is None}
    assert no_words == {group for group in found if "zho" in group or "Chinese" in group}
    english = next(row for group, row in found.items() if group.startswith(("eng", "Eng")))
    assert english["fertility"] < 1.5
    assert all(
        row["characters_per_token"] < english["characters_per_token"]
        for row in rows
        if row is not english and row["group"] != "all"
    )


def test_a_tokenizer_trained_on_a_language_serves_it_better(shared_data: Path, tmp_path: Path):
    folder = shared_data / "multi30k_en_de"
    made = train(folder / "validation.csv", out=tmp_path / "de", column="target", vocab_size=1500)
    rows = compare(folder / "test.csv", tokenizers=f"minilm,{made['out']}", column="target")
    english, german = rows
    assert german["fertility"] < english["fertility"]
    assert german["unknown_rate"] == 0


def test_the_corpus_is_read_by_the_same_columns_where_it_has_them(tmp_path: Path):
    (tmp_path / "data.csv").write_text("one,two\n" + "abc abc,xyz xyz\n" * 9)
    (tmp_path / "corpus.txt").write_text("abc abc\n" * 9)
    for corpus, unknown in (("data.csv", 0.0), ("corpus.txt", 1.0)):
        rows = compare(
            tmp_path / "data.csv", column="one,two", tokenizers="word", vocab_size=50,
            corpus=[str(tmp_path / corpus)],
        )  # fmt: skip
        assert [row["unknown_rate"] for row in rows[:2]] == [0.0, unknown]


def test_files_that_are_called_alike_are_groups_of_their_own(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.txt").write_text("some words\n")
    rows = compare(tmp_path, tokenizers="minilm")
    assert [row["group"] for row in rows] == [
        str(tmp_path / "a" / "test.txt"), str(tmp_path / "b" / "test.txt"), "all",
    ]  # fmt: skip
