"""Every form of a conversation is one and the same afterwards, and nothing is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warmstart.data.conversations import (
    CHAT_ROLES,
    NESTED,
    PREFERENCE_ROLES,
    PROMPT_ROLES,
    as_text,
    messages_of,
    read,
    read_conversations,
    read_preferences,
    read_prompts,
)
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read_splits
from warmstart.data.settings import Data
from warmstart.data.splitting import map_roles, own_rows
from warmstart.errors import RowError

ASKED = {"role": "user", "content": "Two and two?"}
ANSWER = {"role": "assistant", "content": "Four."}
SYSTEM = {"role": "system", "content": "Be brief."}
FORMS = {
    "messages": {"messages": [SYSTEM, ASKED, ANSWER]},
    "openai": {"messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Two and two?"}]}, ANSWER]},
    "sharegpt": {"system": "Be brief.", "conversations": [
        {"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}]},
    "completion": {"system": "Be brief.", "prompt": "Two and two?", "completion": "Four."},
    "response": {"system_prompt": "Be brief.", "prompt": "Two and two?", "response": "Four."},
    "two lists": {"prompt": [SYSTEM, ASKED], "completion": [ANSWER]},
    "alpaca": {"system": "Be brief.", "instruction": "Two and two?", "input": "",
               "output": "Four."},
    "json": {"messages": json.dumps([SYSTEM, ASKED, ANSWER])},
}  # fmt: skip


def table_of(rows: list[Any], tmp_path: Path, roles: Any = CHAT_ROLES) -> pa.Table:
    """The rows as they come out of a file, under their roles."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (_, _, table), *_ = read_splits(Data(path=str(path)), None, Ledger())
    return map_roles(table, roles, {}, set(), NESTED)


def dropped(table: pa.Table, form: Any) -> tuple[pa.Table, dict[str, Any]]:
    ledger = Ledger()
    ledger.read("rows", len(table))
    made = own_rows(table, form, ledger)
    ledger.keep("train", len(made))
    return made, ledger.summary()["dropped"]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_the_same_messages(name: str, tmp_path: Path) -> None:
    made, lost = dropped(table_of([FORMS[name]] * 2, tmp_path), read_conversations)
    assert not lost
    assert [read(value) for value in made["messages"].to_pylist()] == [[SYSTEM, ASKED, ANSWER]] * 2
    assert made["target"].to_pylist() == ["Four."] * 2
    assert made["source"][0].as_py() == "Two and two?"


def test_an_input_stands_below_its_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}
    made, _ = dropped(table_of([row], tmp_path), read_conversations)
    assert read(made["messages"][0].as_py())[0]["content"] == "Translate.\nGuten Tag"


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "clock", "arguments": arguments}
    return {"messages": [
        ASKED, {"role": "assistant", "content": None,
                "tool_calls": [{"type": "function", "function": function}]},
        {"role": "tool", "content": "ok"}, ANSWER]}  # fmt: skip


def test_arguments_of_mixed_types_come_back_unchanged(tmp_path: Path) -> None:
    """axolotl#3136, trl#5307: Arrow breaks on them, or fills each with the keys of all."""
    given = [{"time": "x"}, {"time": 1}, {"place": None, "deep": {"a": [1, "b"]}}]
    made, lost = dropped(table_of([call(own) for own in given], tmp_path), read_conversations)
    assert not lost
    calls = [read(value)[1]["tool_calls"][0] for value in made["messages"].to_pylist()]
    assert [own["function"]["arguments"] for own in calls] == given


def test_arguments_as_text_are_the_object_that_they_say(tmp_path: Path) -> None:
    rows = [call({"b": 1, "a": "é"}), call('{"b": 1, "a": "é"}')]
    made, _ = dropped(table_of(rows, tmp_path), read_conversations)
    assert made["messages"][0] == made["messages"][1]


def test_older_and_other_forms_of_calls(tmp_path: Path) -> None:
    old = {"messages": [ASKED, {"role": "assistant", "content": "", "function_call":
                                {"name": "clock", "arguments": "{}"}}]}  # fmt: skip
    share = {"messages": [{"from": "human", "value": "Two and two?"},
                          {"from": "function_call", "value": '{"name": "clock", "arguments": {}}'},
                          {"from": "observation", "value": "ok"}]}  # fmt: skip
    made, lost = dropped(table_of([old, share], tmp_path), read_conversations)
    assert not lost
    first, second = (read(value) for value in made["messages"].to_pylist())
    assert first[1] == second[1]
    assert second[2] == {"role": "tool", "content": "ok"}


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path: Path) -> None:
    rows = [
        FORMS["messages"],
        {"messages": [{"role": "narrator", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "a"}]}]},
        {"messages": [ASKED, {**ANSWER, "weight": 0.5}]},
        call("no json"),
        {"messages": []},
    ]
    made, lost = dropped(table_of(rows, tmp_path), read_conversations)
    assert len(made) == 1
    assert set(lost) == {
        "a message of the unknown role 'narrator'",
        "a message with a part that is no text, such as an image",
        "a message whose weight is neither 0 nor 1",
        "a tool call whose arguments are no JSON object",
        "no messages",
    }


@pytest.mark.parametrize("calls", [-1, 10**19, "5", True, {"a": 1}])
def test_calls_that_are_no_list(calls: Any) -> None:
    with pytest.raises(RowError, match="tool_calls are no list"):
        messages_of([ASKED, {**ANSWER, "tool_calls": calls}])


def test_weights_and_tools_are_kept(tmp_path: Path) -> None:
    tool = {"name": "clock", "parameters": {"type": "object", "properties": {"x": {}}}}
    row = {"messages": [ASKED, {**ANSWER, "weight": 0}, ASKED, ANSWER], "tools": [tool]}
    made, _ = dropped(table_of([row, {**row, "tools": []}], tmp_path), read_conversations)
    assert [m.get("weight") for m in read(made["messages"][0].as_py())] == [None, 0, None, None]
    assert read(made["tools"][0].as_py()) == [{"type": "function", "function": tool}]
    assert made["tools"][1].as_py() == ""


def test_a_conversation_without_answer_has_no_target(tmp_path: Path) -> None:
    rows = [{"messages": [ASKED, ANSWER, ASKED]}, {"messages": [ASKED]}]
    made, _ = dropped(table_of(rows, tmp_path), read_conversations)
    assert made["target"].to_pylist() == ["", ""]
    assert made["source"][1].as_py() == ASKED["content"]


BAD = {"role": "assistant", "content": "Five."}
PAIRS = {
    "texts": {"prompt": "Two and two?", "chosen": "Four.", "rejected": "Five."},
    "messages": {"prompt": [ASKED], "chosen": "Four.", "rejected": "Five."},
    "all messages": {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [BAD]},
    "whole": {"prompt": "Two and two?", "chosen": [ASKED, ANSWER], "rejected": [ASKED, BAD]},
    "no prompt": {"chosen": [ASKED, ANSWER], "rejected": [ASKED, BAD]},
    "hh-rlhf": {"chosen": "\n\nHuman: Two and two?\n\nAssistant: Four.",
                "rejected": "\n\nHuman: Two and two?\n\nAssistant: Five."},
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_every_form_of_a_preference(name: str, tmp_path: Path) -> None:
    made, lost = dropped(table_of([PAIRS[name]], tmp_path, PREFERENCE_ROLES), read_preferences)
    assert not lost
    row = made.to_pylist()[0]
    assert [read(row[name]) for name in ("prompt", "chosen", "rejected")] == [
        [ASKED], [ANSWER], [BAD]]  # fmt: skip


def test_equal_answers_prefer_nothing(tmp_path: Path) -> None:
    rows = [PAIRS["texts"], {"prompt": "a", "chosen": "b", "rejected": "b"}]
    _, lost = dropped(table_of(rows, tmp_path, PREFERENCE_ROLES), read_preferences)
    assert set(lost) == {"both answers are the same"}


def test_prompts_and_their_answers(tmp_path: Path) -> None:
    rows = [{"prompt": "2 + 2 =", "answer": 4}, {"prompt": [SYSTEM, ASKED], "answer": "Four."},
            {"prompt": [ASKED, ANSWER], "answer": None}]  # fmt: skip
    made, _ = dropped(table_of(rows, tmp_path, PROMPT_ROLES), read_prompts)
    assert made["answer"].to_pylist() == ["4", "Four.", "Four."]
    assert as_text(read(made["prompt"][2].as_py())) == ASKED["content"]


def test_structs_of_arrow_have_no_keys_that_were_not_there() -> None:
    calls = [[{"function": {"name": "f", "arguments": own}}] for own in ({"a": 1}, {"b": 2})]
    answer = {"role": "assistant", "content": ""}
    column = pa.array([[ASKED, answer | {"tool_calls": own}] for own in calls])
    table = pa.table({"messages": column, "_file": ["a", "a"], "_line": [1, 2]})
    made, _ = dropped(map_roles(table, CHAT_ROLES, {}, set(), NESTED), read_conversations)
    own = [read(v)[1]["tool_calls"][0]["function"]["arguments"]
           for v in made["messages"].to_pylist()]  # fmt: skip
    assert own == [{"a": 1}, {"b": 2}]


def test_real_conversations(shared_data: Path) -> None:
    for name, roles, form in (
        ("tool_chat", CHAT_ROLES, read_conversations),
        ("short_instructions", CHAT_ROLES, read_conversations),
        ("hh_harmless", PREFERENCE_ROLES, read_preferences),
        ("politeness_pref", PREFERENCE_ROLES, read_preferences),
        ("gsm8k", PROMPT_ROLES, read_prompts),
    ):
        path = shared_data / name / "test.jsonl"
        (_, _, table), *_ = read_splits(Data(path=str(path)), None, Ledger())
        made, lost = dropped(map_roles(table, roles, {}, set(), NESTED), form)
        assert set(lost) <= {"both answers are the same"}, name
        assert len(made) > 0.98 * len(table)
