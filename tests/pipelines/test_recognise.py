"""The task is taken from the columns where they are unmistakable, and said; else one line says
which command it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import warmstart
from chats import bytes_with, talker
from warmstart.cli.main import main
from warmstart.config.recipe import Recipe
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import load_hub
from warmstart.errors import DataError, RecipeError
from warmstart.pipelines.compare.request import wanted
from warmstart.pipelines.reading.recognise import recipe_of, recognise, with_task

LONG = "The committee met on Monday and talked about the new harbour for a long time. " * 6
ENGLISH = "A man is riding a brown horse along the beach in the evening"
GERMAN = "Ein Mann reitet am Abend auf einem braunen Pferd den Strand entlang"
SPAN = [{"start": 0, "end": 3, "label": "PER"}]
CHAT = [{"role": "user", "content": "Hi"}]
ROWS: Mapping[str, dict[str, Any]] = {
    "tagging": {"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]},
    "tagging, in cells": {"tokens": "['a', 'b']", "tags": "['O', 'B-X']"},
    "tagging, doccano": {"text": "Zoë", "label": '[[0, 3, "PER"]]'},
    "tagging, spans": {"text": "Zoë", "entities": SPAN},
    "extractive_qa": {"context": "In 1066.", "question": "?", "answers": "{'text': ['1066']}"},
    "extractive_qa, a text": {"context": "In 1066.", "question": "When?", "answer": "1066"},
    "translation, pairs": {"translation": {"en": "a", "de": "b"}},
    "translation": {"source": ENGLISH, "target": GERMAN},
    "summarization": {"source": LONG, "target": "A new harbour."},
    "summarization, by name": {"dialogue": "A: Hi. B: Hi.", "summary": "They greet."},
    "text2text": {"source": "1 + 1", "target": "2"},
    "chat, one turn": {"prompt": "1 + 1", "response": "2"},
    "chat, alpaca": {"instruction": "Add", "input": "1 + 1", "output": "2"},
    "embedding": {"anchor": "a", "positive": "b", "negative": "c"},
    "pairs": {"premise": "a", "hypothesis": "b", "label": "yes"},
    "regression": {"text": "a", "label": 0.5},
    "regression, pairs": {"sentence1": "a", "sentence2": "b", "score": "3"},
    "multilabel": {"text": "a", "labels": ["x", "y"]},
    "multilabel, in cells": {"text": "a", "labels": "{'x', 'y'}"},
    "preferences": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "chat": {"messages": CHAT},
    "chat, sharegpt": {"conversations": [{"from": "human", "value": "Hi"}]},
    "chat, two lists": {"prompt": CHAT, "completion": CHAT},
    "multiple choice": {"question": "a?", "choices": ["b", "c"], "answer": 1},
    "minimal pairs": {"sentence_good": "a", "sentence_bad": "b", "paradigm": "c"},
    "plain text": {"text": "a"},
    "None": {"text": "a", "label": "x"},
    "None, whole numbers": {"text": "a", "label": "3"},
    "None, 1.0": {"text": "a", "label": "1.0"},
    "None, a question and its class": {"question": "a?", "answer": "b", "category": "c"},
    "None, a list and a label": {"text": "[1, 2]", "label": "x"},
}


def varied(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Twenty rows, whose texts of an answer differ."""
    free = ("target", "response", "output", "summary")
    return [{k: f"{v} {n}" if k in free else v for k, v in row.items()} for n in range(20)]


@pytest.mark.parametrize("name", ROWS)
def test_columns_say_the_task(name: str) -> None:
    known = recognise(pa.Table.from_pylist(varied(ROWS[name])))
    assert (known.task if known else "None") == name.partition(",")[0]


def test_a_request_that_names_a_task_or_columns_is_left_alone() -> None:
    rows = varied(ROWS["multilabel"])
    assert with_task(Recipe.of({}), rows, Ledger()).task.part_name() == "multilabel"
    for keys in ({"task": "classification"}, {"data.columns.label": "labels"}):
        recipe = Recipe.of(keys)
        assert with_task(recipe, rows, Ledger()) is recipe


def test_prompts_are_put_through_the_template_of_a_base_that_has_one(tmp_path: Path) -> None:
    """CoursIA#11304: on an instruct base free text is what it has never seen."""
    rows = varied(ROWS["chat, one turn"])
    recipe = {"base": str(talker(tmp_path / "talker"))}
    assert with_task(Recipe.of(recipe), rows, Ledger()).task.part_name() == "chat"
    recipe = {"base": str(talker(tmp_path / "plain", bytes_with()))}
    assert with_task(Recipe.of(recipe), rows, Ledger()).task.part_name() == "text2text"
    messages = varied(ROWS["chat"])
    assert with_task(Recipe.of(recipe), messages, Ledger()).task.part_name() == "chat"


def test_settings_of_the_usual_objective_name_no_task() -> None:
    rows = varied(ROWS["multilabel"])
    recipe = Recipe.of({"objective.label_smoothing": 0.1})
    assert with_task(recipe, rows, Ledger()).task.part_name() == "multilabel"


def test_settings_of_a_task_go_to_the_one_that_the_data_say(tmp_path: Path) -> None:
    """`--task.template plain` beside conversations needs no `--task chat`, and it is still said."""
    rows, ledger = varied(ROWS["chat"]), Ledger()
    keys = {"task.template": "plain", "task.max_new_tokens": 7, "base": "x/y"}
    recipe = recipe_of(rows, {"task": {"max_length": 99}}, keys)
    for known in (recipe, with_task(recipe, rows, ledger)):
        assert known.task.part_name() == "chat"
        assert known.objective.part_name() == "sft"
        assert known.task.model_dump(exclude_unset=True) == {
            "template": "plain", "max_new_tokens": 7, "max_length": 99}  # fmt: skip
    assert "task chat, by the columns 'messages'" in ledger.first_remarks[0]
    runs = wanted({}, {**keys, "method": "full,lora"}, partial(recipe_of, rows))
    assert [run.recipe.task.part_name() for run in runs] == ["chat", "chat"]
    with pytest.raises(RecipeError, match="task chat has no setting 'templat'"):
        recipe_of(rows, {"task.templat": "plain"})
    with pytest.raises(RecipeError, match="task classification has no setting 'template'"):
        recipe_of(varied(ROWS["None"]), {"task.template": "plain"})
    with pytest.raises(RecipeError, match="task classification has no setting 'template'"):
        recipe_of(rows, {"task.template": "plain", "task": "classification"})
    plain = recipe_of(rows, {"task.max_length": 99})
    assert plain.task.part_name() == "chat"


def test_documents_with_a_note_beside_them_are_asked_about() -> None:
    """A column `type` of short texts is a class; of whole documents it may be one."""
    for text, asks in ((LONG, False), (LONG * 10, True)):
        rows = [{"title": f"{n}", "text": f"{text} {n}", "type": "ab"[n % 2]} for n in range(20)]
        if not asks:
            assert with_task(Recipe.of({}), rows, Ledger()).task.part_name() == "classification"
            continue
        with pytest.raises(DataError, match="may be their class or a mere note; say which") as one:
            with_task(Recipe.of({}), rows, Ledger())
        assert "\n" not in str(one.value) and "warmstart pretrain" in str(one.value)
        named = Recipe.of({"data.columns": {"label": "type"}})
        assert with_task(named, rows, Ledger()) is named


def test_a_folder_of_test_rows_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the command that takes them is said to who would train on them."""
    rows = [{**ROWS["minimal pairs"], "sentence_good": f"a {n}"} for n in range(30)]
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "test.csv"
    pd.DataFrame(rows).to_csv(file, index=False)
    assert main(["tune", str(tmp_path / "set"), "--dry-run"]) == 2
    assert f"warmstart evaluate smollm2 {file} --task choice" in capsys.readouterr().err
    found = warmstart.inspect(tmp_path / "set", out=tmp_path / "look", features=False)
    assert found.lines["read for"].startswith("minimal pairs") and found.summary["rows"]


def test_a_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[str] = []

    def give(name: str) -> Any:
        asked.append(name)
        rows = [{"text": f"word {n}", "label": "ab"[n % 2]} for n in range(40)]
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})

    monkeypatch.setattr(datasets, "load_dataset", give)
    load_hub.cache_clear()
    assert warmstart.plan("owner/a-set-of-the-hub")["rows"]["train"]
    assert asked == ["owner/a-set-of-the-hub"]
    load_hub.cache_clear()


def test_what_is_taken_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"word {n} here", "labels": ["x"] if n % 2 else ["x", "y"]} for n in range(60)]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    assert main(["tune", str(tmp_path / "a.csv"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "# note: task multilabel, by the columns 'text' and 'labels'" in said
    assert 'name = "multilabel"' in said
    plan = warmstart.plan(rows, method="frozen,lora")
    assert [run["recipe"].task.part_name() for run in plan["runs"]] == ["multilabel"] * 2
    assert any(note["kind"] == "recognised" for note in plan["ledger"]["notes"])


def test_what_no_task_learns_from_is_called_by_its_name(tmp_path: Path) -> None:
    for name in ("multiple choice", "minimal pairs"):
        with pytest.raises(
            DataError, match=rf"holds {name} \(.*warmstart evaluate .*--task choice"
        ):
            warmstart.plan(varied(ROWS[name]))
    with pytest.raises(DataError, match=r"holds preferences \(.*`warmstart align DATA --base"):
        warmstart.plan(varied(ROWS["preferences"]))
    with pytest.raises(RecipeError, match=r"minilm, writes no texts.*--task text2text --base"):
        warmstart.plan(varied(ROWS["text2text"]))
    (tmp_path / "books" / "old").mkdir(parents=True)
    for place in ("a.txt", "old/b.txt"):
        (tmp_path / "books" / place).write_text("It was a night.\n\nAnd it rained.\n" * 9)
    for path in (tmp_path / "books", tmp_path / "books" / "a.txt"):
        with pytest.raises(
            DataError, match=rf"{path} holds plain text: `warmstart pretrain {path}"
        ):
            warmstart.plan(path)


def test_columns_that_say_nothing_are_answered_with_a_command() -> None:
    row = {"good": "A longer text", "bad": "Text"}
    rows = [{k: f"{v} {n}" for k, v in row.items()} | {"kind": "ab"[n % 2]} for n in range(30)]
    match = r"columns good, bad, kind, .*--data.columns.text good --data.columns.label kind"
    with pytest.raises(DataError, match=match):
        warmstart.plan(rows)


SETS: Mapping[str, str] = {
    **dict.fromkeys(
        ("banking77", "clinc150", "cola", "scicite", "sib200", "sms_spam", "sst2", "trec",
         "tweet_emotion", "tweet_irony", "leakage", "citation_intent", "winobias/test.csv",
         "identity_templates/test.csv"), "classification"),
    "goemotions": "multilabel", "stsb": "regression", "rte": "pairs",
    **dict.fromkeys(("wnut17", "scierc_ner"), "tagging"),
    **dict.fromkeys(("wiki_qa", "policyqa", "xquad/test_en.jsonl"), "extractive_qa"),
    **dict.fromkeys(("scitldr", "dialogsum"), "--task summarization --base smollm2"),
    "multi30k_en_de": "--task translation --base smollm2",
    **dict.fromkeys(
        ("dolly_open_qa", "task_prompts", "short_instructions", "seed_tasks", "gsm8k",
         "lambada/test.jsonl", "tool_chat"), "--task chat --base smollm2"),
    **dict.fromkeys(("hh_harmless", "qa_feedback_pref", "politeness_pref"), "holds preferences"),
    **dict.fromkeys(
        ("arc_challenge", "bbq/test.jsonl", "openbookqa/test.jsonl", "truthfulqa/test.jsonl",
         "winogrande/validation.jsonl"), "holds multiple choice"),
    **dict.fromkeys(
        ("corpus/prose", "corpus/wikitext2", "corpus/tinyshakespeare/input.txt"),
        "`warmstart pretrain"),
    **dict.fromkeys(("blimp", "blimp/test.csv"), "holds minimal pairs"),
    "corpus/peps": "--data.columns.label type` learns to tell it, `warmstart pretrain",
    "crows_pairs/test.csv": "--data.columns.label direction",
    **dict.fromkeys(("xstest", "xstest/test.csv"),
                    "--data.columns.text prompt --data.columns.label label"),
    "bbq": "holds multiple choice", "lambada": "--task chat --base smollm2",
    **dict.fromkeys(("xquad", "winobias"), "Name the file itself ("),
}  # fmt: skip


DOCUMENTS = {"corpus/peps"}
"""Sets of which a training asks whether a column is a class; to look at them is free."""
WHOLE = {"banking77", "clinc150", "winobias/test.csv"}
"""Sets whose first rows are of too few classes, or of too many."""


@pytest.mark.parametrize("name", SETS)
def test_the_first_command_on_real_data(shared_data: Path, name: str) -> None:
    """`tune DATA --dry-run` is right, or one line with the command that is."""
    try:
        limit = {} if name in WHOLE else {"data.limit": 200}
        plan = warmstart.plan(shared_data / name, **limit, **{"data.max_dropped": 0.5})
        answer = plan["recipe"].task.part_name()
    except warmstart.WarmstartError as error:
        answer = str(error)
        assert "\n" not in answer
    assert SETS[name] in answer


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_the_first_look_at_real_data(shared_data: Path, tmp_path: Path, name: str) -> None:
    """`inspect DATA` looks at what the rows are for, or says which command does."""
    settings = {"data.limit": 60, "features": False, "out": tmp_path / "out"}
    if ("--data.columns" in SETS[name] and name not in DOCUMENTS) or SETS[name].startswith(
        "Name the file"
    ):
        with pytest.raises(DataError, match=r"warmstart inspect|Name the file itself"):
            warmstart.inspect(shared_data / name, **settings)
        return
    read_for = warmstart.inspect(shared_data / name, **settings).lines["read for"]
    expected = "plain text" if "pretrain" in SETS[name] else SETS[name]
    expected = "classification" if name in DOCUMENTS else expected
    words = expected.removeprefix("--task ").removeprefix("holds ").removesuffix(" --base smollm2")
    assert read_for.partition(",")[0] == words


def test_no_set_is_left_out(shared_data: Path) -> None:
    there = {path.name for path in shared_data.iterdir() if path.is_dir()}
    assert there == {name.partition("/")[0] for name in SETS}


@pytest.mark.parametrize("verb", ["tune", "inspect"])
def test_a_first_row_that_is_data_is_told(tmp_path: Path, verb: str) -> None:
    lines = [
        f'{"billing" if n % 2 else "delivery"},"My parcel number {n} never came to me."'
        for n in range(20)
    ]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    look = warmstart.plan if verb == "tune" else warmstart.inspect
    with pytest.raises(DataError) as caught:
        look(tmp_path / "d.csv")
    words = ("the first row looks like data", f"warmstart {verb} ", "--data.header false",
             "--data.columns.text 'column 2' --data.columns.label 'column 1'")  # fmt: skip
    assert all(word in str(caught.value) for word in words), caught.value
    own = {"data.header": False, "data.columns.text": "column 2", "data.columns.label": "column 1"}
    assert warmstart.plan(tmp_path / "d.csv", **own)["ledger"]["rows"]["read"] == 20
