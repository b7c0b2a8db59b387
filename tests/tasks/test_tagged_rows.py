"""Rows of every kind come to one form: words in a text, a tag for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from warmstart import part as parts
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.splitting import own_rows
from warmstart.errors import DataError
from warmstart.metrics.entities import spans_of_tags
from warmstart.tasks.tagging.words import parts_of, words_of

TOKENS = ["EU", "rejects", "New", "York"]
TAGS = ["B-ORG", "O", "B-LOC", "I-LOC"]
TEXT = "EU rejects New York"
SPANS = [{"start": 0, "end": 2, "label": "ORG"}, {"start": 11, "end": 19, "label": "LOC"}]
FORM = {"text": TEXT, "words": [[0, 2], [3, 10], [11, 14], [15, 19]], "tags": TAGS}


def brought(rows: Any, ledger: Ledger | None = None, **settings: Any) -> list[dict[str, Any]]:
    task: Any = parts.make("task", "tagging", settings)
    ledger = ledger or Ledger()
    table = map_roles(read(rows, ledger=ledger), task.roles, {}, task.required, task.nested)
    found = own_rows(table, task.rows, ledger).drop_columns(["_file", "_line"]).to_pylist()
    return [
        {k: v if k == "text" else json.loads(v or "0") for k, v in row.items()} for row in found
    ]


def words(text: str) -> list[str]:
    return [text[a:b] for a, b in words_of(text)]


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": TOKENS, "ner_tags": TAGS},
        {"tokens": json.dumps(TOKENS), "tags": json.dumps(TAGS)},
        {"tokens": str(TOKENS), "tags": str(TAGS)},
        {"text": TEXT, "tags": " ".join(TAGS)},
        {"text": TEXT, "tokens": TOKENS, "ner_tags": TAGS},
        {"text": TEXT, "spans": SPANS},
        {"text": TEXT, "spans": json.dumps(SPANS)},
        {"text": TEXT, "entities": [[0, 2, "ORG"], [11, 20 - 1, "LOC"]]},
        {"text": TEXT, "entities": json.dumps({"entities": [[11, 19, "LOC"], [0, 2, "ORG"]]})},
        {"text": TEXT, "spans": [{"start": 0, "end": 3, "type": "ORG"}, *SPANS[1:]]},
        {"text": TEXT, "spans": [{**SPANS[0], "text": "EU", "score": 0.9}, *SPANS[1:]]},
        {
            "tokens": [{"text": t, "start": TEXT.index(t)} for t in TOKENS],
            "tags": TAGS,
        },
    ],
)  # fmt: skip
def test_one_form_for_all(row: dict[str, Any]) -> None:
    assert brought([row]) == [FORM]


@pytest.mark.parametrize(
    "tags",
    ["I-ORG O I-LOC I-LOC", "S-ORG O B-LOC E-LOC", "U-ORG O B-LOC L-LOC", "I-ORG O B-LOC I-LOC"],
)
def test_every_scheme_becomes_iob2(tags: str) -> None:
    (row,) = brought([{"tokens": TOKENS, "ner_tags": tags.split()}])
    assert {name: row[name] for name in FORM} == FORM


def test_one_type_without_a_name() -> None:
    (row,) = brought([{"tokens": TOKENS, "tags": ["B", "O", "B", "I"]}])
    assert row["tags"] == ["B-entity", "O", "B-entity", "I-entity"]


def test_class_labels_of_datasets_have_their_names() -> None:
    import datasets

    names = ["O", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
    rows = {"tokens": [TOKENS], "ner_tags": [[1, 0, 3, 4]]}
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    assert brought(datasets.Dataset.from_dict(rows, features=features)) == [FORM]
    plain = [{"tokens": TOKENS, "ner_tags": [1, 0, 3, 4]}]
    assert brought(plain, names=",".join(names)) == [FORM]
    with pytest.raises(DataError, match=r"the tags are numbers; give their names.*--task.names"):
        brought(plain)


def test_labels_of_single_words() -> None:
    (row,) = brought([{"tokens": TOKENS, "upos": ["PROPN", "VERB", "PROPN", "PROPN"]}])
    assert row["tags"] == ["PROPN", "VERB", "PROPN", "PROPN"]
    (row,) = brought([{"tokens": TOKENS, "tags": ["B-", "x", "y", "z"]}], entities="no")
    assert row["tags"] == ["B-", "x", "y", "z"]


def test_a_tag_out_of_place_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("EU B-ORG\n\nNew LOC\nYork O\n")
    with pytest.raises(DataError, match=r"a\.conll:3: tag 'LOC' is neither O nor marked as B-"):
        brought(file)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tokens": TOKENS, "tags": TAGS[1:]}, "4 tokens and 3 tags"),
        ({"tokens": ["EU", None], "tags": ["O", "O"]}, "a token is missing"),
        ({"tokens": TOKENS, "tags": None}, "no tags"),
        ({"text": TEXT, "spans": [[0, 99, "ORG"]]}, "a span lies outside its text"),
        ({"text": TEXT, "spans": [[-2, 2, "ORG"]]}, "a span lies outside its text"),
        ({"text": TEXT, "spans": [[0, 2, "ORG"], [0, 10, "X"]]}, "overlapping spans"),
        ({"text": TEXT, "spans": [[2, 3, "ORG"]]}, "a span holds nothing but whitespace"),
        ({"text": TEXT, "spans": [{"start": 0, "end": 2}]}, "a span is no {start, end, label}"),
        ({"text": TEXT, "spans": [{**SPANS[0], "text": "Eu"}]},
         "a span's text is not what stands at its offsets"),
        ({"text": TEXT, "spans": [[0, 1, "A"], [1, 2, "B"]]}, "two spans in one word"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_go_to_the_ledger(row: dict[str, Any], reason: str) -> None:
    ledger = Ledger()
    key = "tags" if "tags" in row else "spans"
    good = {"tokens": TOKENS, "tags": TAGS} if key == "tags" else {"text": TEXT, "spans": SPANS}
    assert brought([json_cells(good), json_cells(row)], ledger) == [FORM]
    ledger.keep("train", 1)
    assert list(ledger.summary()["dropped"]) == [reason]


def json_cells(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v if v is None or isinstance(v, str) else json.dumps(v) for k, v in row.items()}


def test_half_words_are_widened_and_noted() -> None:
    task: Any = parts.make("task", "tagging", {})
    rows = [
        {"text": TEXT, "spans": SPANS},
        {"text": "the Parisians left", "spans": [[4, 9, "LOC"]]},
    ]
    rows = [json_cells(row) for row in rows]
    table = map_roles(read(rows, ledger=Ledger()), task.roles, {}, task.required, task.nested)
    found = own_rows(table, task.rows, Ledger())
    assert json.loads(found["tags"][1].as_py()) == ["O", "B-LOC", "O"]
    (note,) = task.data_notes(found)
    assert note.startswith(
        "1 span of train (33.3%) with an end within a word, widened to whole words (first: "
    )
    assert task.data_notes(found.slice(0, 1)) == []
    (row,) = brought([{"text": "the x-rays", "spans": [[4, 5, "A"]]}], pieces="parts")
    assert row["tags"] == ["O", "B-A", "O", "O"] and "widened" not in row


def test_tags_that_do_not_follow_their_scheme_are_counted(tmp_path: Path) -> None:
    task: Any = parts.make("task", "tagging", {})
    file = tmp_path / "a.conll"
    good = "EU U-ORG\nhas O\nNew B-LOC\nYork L-LOC\n\n"
    file.write_text(good + "a O\nb I-LOC\nc B-LOC\nd L-LOC\ne L-PER\n\n" + "f O\ng B-LOC\n")
    table = map_roles(read(file, ledger=Ledger()), task.roles, {}, task.required, task.nested)
    found = own_rows(table, task.rows, Ledger())
    (note,) = task.data_notes(found)
    assert note.startswith(
        "4 tags of train do not follow their scheme, bilou (first: "
        f"{file}:6, I-LOC after O); what cannot go on begins an entity of its own"
    )
    assert json.loads(found["tags"][1].as_py()) == ["O", "B-LOC", "B-LOC", "I-LOC", "B-PER"]
    assert task.data_notes(found.slice(0, 1)) == []


def test_rows_left_out_do_not_shift_the_note() -> None:
    task: Any = parts.make("task", "tagging", {})
    rows = [
        {"tokens": TOKENS, "tags": TAGS[1:]},
        {"tokens": TOKENS, "tags": TAGS},
        {"tokens": TOKENS, "tags": ["O", "I-LOC", "B-ORG", "O"]},
    ]
    table = map_roles(read(rows, ledger=Ledger()), task.roles, {}, task.required, task.nested)
    found = own_rows(table, task.rows, Ledger())
    (note,) = task.data_notes(found)
    assert "1 tags of train" in note and "iob2 (first: <list>:3, I-LOC after O)" in note


def test_a_text_alone_has_words_and_no_tags() -> None:
    assert brought([{"text": TEXT}]) == [{k: v for k, v in FORM.items() if k != "tags"}]
    assert brought([{"tokens": TOKENS}]) == [{k: v for k, v in FORM.items() if k != "tags"}]
    assert brought([{"text": "[1] is no list"}])[0]["text"] == "[1] is no list"


def test_words() -> None:
    assert words("I don't know (Paris), x-ray: $5 3.14 U.S. a@b.com") == (
        "I don't know ( Paris ) , x-ray : $ 5 3.14 U.S . a@b.com".split()
    )
    assert words("https://a.b/c?d=e.") == ["https://a.b/c?d=e", "."]
    assert words("東京へ 2024年") == ["東", "京", "へ", "2024", "年"]
    assert words("हिन्दी भाषा cafe\u0301") == ["हिन्दी", "भाषा", "cafe\u0301"]
    assert words("Paris,London and/or _x_") == "Paris , London and / or _ x _".split()
    assert words(" \n") == []
    text = "the x-ray's"
    assert [text[a:b] for a, b in parts_of(text, (4, 11))] == ["x", "-", "ray", "'", "s"]


THAI, KOREAN = "ผมไปเชียงใหม่เมื่อวานนี้", "저는 부산에서 살았습니다"


def entities_of(row: dict[str, Any]) -> list[str]:
    text, places = row["text"], row["words"]
    return [text[places[a][0] : places[b - 1][1]] for a, b, _ in spans_of_tags(row["tags"])]


def test_spans_in_scripts_without_spaces_stay_as_they_are() -> None:
    row = {"text": THAI, "spans": [{"start": 4, "end": 13, "label": "CITY"}]}
    (made,) = brought([row])
    assert entities_of(made) == ["เชียงใหม่"]
    assert "widened" not in made
    assert words(THAI)[:3] == ["ผ", "ม", "ไ"]


@pytest.mark.parametrize("count", [4, 100])
def test_spans_within_words_stop_unless_they_are_few(count: int) -> None:
    span = {"start": 3, "end": 5, "label": "CITY"}
    rows = [{"text": KOREAN, "spans": [span]} for _ in range(count)]
    match = rf"{count} of {count} spans \(100%\) begin or end within a word \(first: .*:1\)"
    with pytest.raises(DataError, match=match + ".*--task.pieces characters"):
        brought(rows)
    for row in brought(rows, pieces="characters"):
        assert entities_of(row) == ["부산"]
    whole = [{"text": "그는 서울 사람", "spans": [span]} for _ in range(20 * count)]
    made = brought([*rows, *whole])
    assert sum(row["widened"] for row in made if row["text"] == KOREAN) == count


def test_chinese_words_are_cut_as_a_plain_text_will_be() -> None:
    (made,) = brought([{"tokens": ["12", "北京", "很", "大"], "tags": ["O", "B-CITY", "O", "O"]}])
    assert made["text"] == "12 北京很大"
    assert made["tags"] == ["O", "B-CITY", "I-CITY", "O", "O"]
    assert [made["text"][a:b] for a, b in made["words"]] == words("12 北京很大")
    assert entities_of(made) == ["北京"]
    (plain,) = brought([{"tokens": ["北京", "大"], "pos": ["NR", "VA"]}])
    assert plain["tags"] == ["NR", "VA"]  # whose words have labels of their own


DOCCANO = [[0, 2, "ORG"], [11, 19, "LOC"]]
OFFSETS = [{"id": 1, "start_offset": a, "end_offset": b, "label": kind} for a, b, kind in DOCCANO]
STUDIO = [{"start": a, "end": b, "text": TEXT[a:b], "labels": [kind]} for a, b, kind in DOCCANO]


@pytest.mark.parametrize("spans", [DOCCANO, OFFSETS, STUDIO], ids=["doccano", "offsets", "studio"])
@pytest.mark.parametrize("name", ["label", "labels", "entities"])
def test_exports_of_doccano_and_label_studio(spans: Any, name: str) -> None:
    for cell in (spans, json.dumps(spans), str(spans)):
        rows = [{"text": TEXT, name: cell}, {"text": TEXT, name: type(cell)()}]
        assert [row["tags"] for row in brought(rows)] == [TAGS, ["O"] * 4]
