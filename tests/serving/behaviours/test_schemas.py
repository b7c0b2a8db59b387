"""Texts that are held to a schema, and what a conversation may not ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from served import HELLO, Running
from warmstart.serving.logits import _fault

SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["mood", "sure", "tags"],
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
}  # fmt: skip


def form(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


def test_every_answer_keeps_the_schema(server: Running) -> None:
    """ggml-org/llama.cpp #19051, #4492: never a text without its constraint."""
    answer = server.client().chat.completions.create(
        model="talk", messages=HELLO, response_format=form(SCHEMA), n=8, seed=4, max_tokens=120
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        value = json.loads(choice.message.content or "")
        assert value["mood"] in ("good", "bad")
        assert isinstance(value["sure"], bool)
        assert {*value["tags"]} <= {"a", "b"} and len(value["tags"]) <= 3
    stream = server.client().chat.completions.create(
        model="talk", messages=HELLO, response_format=form(SCHEMA), stream=True, max_tokens=120
    )
    assert json.loads("".join(chunk.choices[0].delta.content or "" for chunk in stream))


def test_the_schema_of_a_response(server: Running) -> None:
    made = server.client().responses.create(
        model="talk", input="Hello", max_output_tokens=120, temperature=0,
        text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
    )  # fmt: skip
    assert json.loads(made.output_text)["mood"] in ("good", "bad")


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "#/properties/a"),
        ({"type": "array", "items": {"type": "string", "pattern": "("}}, "#/items"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"minLength": "x"}}]},
         "#/anyOf/1/items"),
        ({"$ref": "https://example.org/schema"}, "#"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}}, "#"),
    ],
)  # fmt: skip
def test_a_bad_schema_says_where(server: Running, schema: Any, path: str) -> None:
    """ggml-org/llama.cpp #19051, #4492: with the path in the schema; nothing is fetched."""
    refused = server.post("/v1/chat/completions", model="talk", messages=HELLO,
                          response_format=form(schema))  # fmt: skip
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_json_schema")
    assert error["param"] == "response_format"
    assert error["message"].endswith(path)


def test_a_good_schema_has_no_fault() -> None:
    assert _fault(SCHEMA) == ""


def test_a_tokenizer_that_spells_no_json_is_said(server: Running) -> None:
    refused = server.post("/v1/chat/completions", model="words", messages=HELLO,
                          response_format={"type": "json_object"}, max_tokens=5)  # fmt: skip
    if refused.status_code == 200:
        json.loads(refused.json()["choices"][0]["message"]["content"])
    else:
        assert refused.json()["error"]["param"] == "response_format"


def test_tools_are_refused_before_anything_is_written(server: Running) -> None:
    """vllm-project/vllm #8709: the template knows no tools, and the stream failed late."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    for stream in (False, True):
        refused = server.post("/v1/chat/completions", model="talk", messages=HELLO, tools=[tool],
                              stream=stream)  # fmt: skip
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "tools"
