"""Every route with the model that it is for; refusals name the field and say where to ask."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from served import HELLO, TEXTS, Running
from warmstart.inference.predictor import open_predictor


def test_the_listing_says_what_each_model_is(server: Running) -> None:
    client = server.client()
    listed = {model.id: model for model in client.models.list()}
    assert listed.keys() == {model.name for model in server.models.all()}
    card: Any = client.models.retrieve("classes")
    assert card.task == "classification"
    assert card.labels == ["no", "maybe", "yes"]
    assert card.routes == ["/v1/classify"]
    assert card.limits["tokens"] == 64
    talk: Any = listed["talk"]
    assert (talk.chat_template, talk.labels) == ("own", [])


def test_labels_are_those_of_the_predictor(server: Running) -> None:
    for name in ("classes", "adapter-1", "labels"):
        wanted = open_predictor(server.models.named(name).folder).predict(TEXTS)
        body = server.post("/v1/classify", model=name, input=TEXTS).json()
        assert [row["index"] for row in body["data"]] == list(range(len(TEXTS)))
        for row, answer in zip(body["data"], wanted, strict=True):
            assert (row["label"] or row["labels"] or []) == answer.value
            assert row["scores"] == pytest.approx(answer.scores, abs=1e-6)
        assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] > 0


def test_spans_answers_and_numbers(server: Running) -> None:
    tagged = server.post("/v1/tag", model="tags", input=TEXTS[0]).json()
    for span in tagged["data"][0]["spans"]:
        assert TEXTS[0][span["start"] : span["end"]] == span["text"]
    question = {"question": "what was good ?", "context": "the film was good"}
    (answer,) = server.post("/v1/answer", model="spans", input=question).json()["data"]
    if answer["text"]:
        assert question["context"][answer["start"] :].startswith(answer["text"])
    wanted = open_predictor(server.models.named("value").folder).predict(TEXTS)
    rows = server.post("/v1/score", model="value", input=TEXTS).json()["data"]
    assert [row["value"] for row in rows] == pytest.approx([a.value for a in wanted], abs=1e-5)


def test_reranking_orders_by_cosine(server: Running) -> None:
    body = server.post("/v1/rerank", model="vectors", query=TEXTS[0], documents=TEXTS[1:],
                       top_n=2, return_documents=True).json()  # fmt: skip
    vectors = np.array([row.embedding for row in server.client().embeddings.create(
        model="vectors", input=TEXTS, encoding_format="float").data])  # fmt: skip
    cosines = vectors[1:] @ vectors[0]
    best = np.argsort(-cosines)[:2].tolist()
    assert [row["index"] for row in body["results"]] == best
    assert [row["document"]["text"] for row in body["results"]] == [TEXTS[1 + n] for n in best]


def test_completions_of_texts_and_tokens(server: Running) -> None:
    client = server.client()
    how: dict[str, Any] = {"model": "words", "max_tokens": 6, "temperature": 0}
    wanted = [client.completions.create(prompt=text, **how).choices[0].text for text in TEXTS]
    several = client.completions.create(prompt=TEXTS, **how)
    assert [choice.text for choice in several.choices] == wanted
    writer = server.models.named("words").writer
    tokens = [writer.encode(text, raw=True) for text in TEXTS]
    assert [choice.text for choice in client.completions.create(prompt=tokens, **how).choices] == (
        wanted
    )
    assert several.usage is not None
    assert several.usage.prompt_tokens == sum(map(len, tokens))


def test_an_encoder_decoder_writes_and_does_not_talk(server: Running) -> None:
    made = server.client().completions.create(model="source", prompt="the film", max_tokens=4)
    assert made.choices[0].finish_reason in ("stop", "length")
    refused = server.post("/v1/chat/completions", model="source", messages=HELLO)
    assert refused.status_code == 400
    assert "/v1/completions" in refused.json()["error"]["message"]


def test_responses_whole_and_streamed(server: Running) -> None:
    client = server.client()
    how: dict[str, Any] = {"model": "talk", "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(input="Hello", instructions="Be kind.", store=False, **how)
    assert whole.status == "incomplete"
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    with client.responses.stream(input="Hello", instructions="Be kind.", **how) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.incomplete"
    events = [*client.responses.create(input="Hello", instructions="Be kind.", stream=True, **how)]
    parts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(parts) == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    stored = server.post("/v1/responses", model="talk", input="Hello", store=True)
    assert stored.json()["error"]["param"] == "store"


def test_base64_is_the_same_vector(server: Running) -> None:
    floats = server.post("/v1/embeddings", model="vectors", input=TEXTS).json()["data"]
    coded = server.post("/v1/embeddings", model="vectors", input=TEXTS,
                        encoding_format="base64").json()["data"]  # fmt: skip
    for row, code in zip(floats, coded, strict=True):
        raw = np.frombuffer(base64.b64decode(code["embedding"]), "<f4")
        assert raw.tolist() == np.array(row["embedding"], np.float32).tolist()
        assert np.linalg.norm(raw) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/classify", {"model": "talk", "input": "x"}, "model"),
        ("/v1/classify", {"model": "spans", "input": "x"}, "model"),
        ("/v1/embeddings", {"model": "classes", "input": "x"}, "model"),
        ("/v1/embeddings", {"model": "vectors", "input": "x", "dimensions": 3}, "dimensions"),
        ("/v1/embeddings", {"model": "vectors", "input": [1, 99999]}, "input.0"),
        ("/v1/completions", {"model": "vectors", "prompt": "x"}, "model"),
        ("/v1/completions", {"model": "talk", "prompt": "x", "echo": True}, "echo"),
        ("/v1/completions", {"model": "talk", "prompt": "x", "best_of": 3}, "best_of"),
        ("/v1/completions", {"model": "talk", "prompt": "x", "stop": [""]}, "stop"),
        ("/v1/completions", {"model": "talk", "prompt": [-1]}, "prompt"),
        ("/v1/chat/completions", {"model": "talk", "messages": HELLO, "tool_choice": "required"},
         "tool_choice"),
        ("/v1/chat/completions", {"model": "talk", "messages": HELLO, "top_logprobs": 2},
         "top_logprobs"),
        ("/v1/chat/completions", {"model": "talk", "messages": HELLO, "max_tokens": 10**6},
         "max_tokens"),
        ("/v1/chat/completions", {"model": "talk", "messages": [{"role": "user"}]},
         "messages.0.content"),
        ("/v1/responses", {"model": "talk", "input": "x", "previous_response_id": "y"},
         "previous_response_id"),
        ("/v1/answer", {"model": "spans", "input": {"question": "x"}}, "input.context"),
        ("/v1/translate", {"model": "vectors", "input": "x"}, "model"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_named(server: Running, path: str, body: Any, param: str) -> None:
    refused = server.post(path, **body)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_a_model_that_was_not_named_at_start_is_not_loaded(server: Running) -> None:
    folder = server.models.named("talk").folder
    for name in (str(folder), "smollm2", "../talk"):
        refused = server.post("/v1/completions", model=name, prompt="x")
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "model_not_found"


def test_adapters_hold_the_weights_of_their_base_once(server: Running) -> None:
    places = [
        {p.data_ptr() for name, p in server.models.named(f"adapter-{n}").predictor.runner.model
         .named_parameters() if "word_embeddings" in name}
        for n in range(3)
    ]  # fmt: skip
    assert places[0] == places[1] == places[2]
