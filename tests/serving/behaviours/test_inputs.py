"""What may come in, how much of it, and what is said of what may not."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
import numpy as np
import pytest

from served import HELLO, TEXTS, Running
from warmstart.serving.errors import of_validation
from warmstart.serving.routes.completions import CompletionRequest

LONG = "the film was good " * 40
SECRET = "Xyzzyplugh"


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/v1/completions", {"model": "words", "prompt": LONG}, "63"),
        ("/v1/chat/completions", {"model": "words", "messages": [
            {"role": "user", "content": LONG}]}, "63"),
        ("/v1/responses", {"model": "words", "input": LONG}, "63"),
        ("/v1/embeddings", {"model": "vectors", "input": LONG}, "64"),
        ("/v1/classify", {"model": "classes", "input": LONG}, "64"),
        ("/v1/rerank", {"model": "vectors", "query": "x", "documents": [LONG]}, "64"),
        ("/v1/score", {"model": "value", "input": LONG}, "64"),
        ("/v1/summarize", {"model": "summary", "input": LONG}, "64"),
        ("/v1/translate", {"model": "translation", "input": LONG}, "32"),
    ],
)  # fmt: skip
def test_too_long_is_no_failure_of_the_server(
    server: Running, path: str, body: Any, limit: str
) -> None:
    """ardanlabs/kronk #861, ikawrakow/ik_llama.cpp #2420, NVIDIA/TensorRT-LLM #19457: as a 500
    routers send it again for ever."""
    refused = server.post(path, **body)
    error = refused.json()["error"]
    assert refused.status_code == 400
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    numbers = re.findall(r"\d+", error["message"])
    assert limit in numbers
    assert max(map(int, numbers)) >= 160


def test_truncation_is_the_same_on_every_path(server: Running) -> None:
    """huggingface/text-embeddings-inference #394, #227, #218."""
    rows = [TEXTS[0], LONG, TEXTS[1], "good " * 20_000]
    for path, body in (
        ("/v1/embeddings", {"model": "vectors", "input": rows}),
        ("/v1/classify", {"model": "classes", "input": rows}),
        ("/v1/rerank", {"model": "vectors", "query": "x", "documents": rows}),
        ("/v1/score", {"model": "value", "input": rows}),
        ("/v1/summarize", {"model": "summary", "input": rows, "max_tokens": 4}),
        ("/v1/translate", {"model": "translation", "input": rows, "max_tokens": 4}),
    ):
        assert server.post(path, **body).status_code == 400
        cut = server.post(path, truncate=True, **body)
        assert cut.status_code == 200, cut.text
        assert cut.json()["truncated"] == [1, 3]


@pytest.mark.parametrize("empty", ["", "  \n", "\u2003"])
def test_one_bad_text_is_named(server: Running, empty: str) -> None:
    """huggingface/text-embeddings-inference #145, Azure-Samples/azure-search-openai-demo #1134."""
    for path, model in (("/v1/embeddings", "vectors"), ("/v1/classify", "classes")):
        refused = server.post(path, model=model, input=[TEXTS[0], empty, TEXTS[1]])
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "input.1"
        long = server.post(path, model=model, input=[TEXTS[0], TEXTS[1], LONG])
        assert long.json()["error"]["param"] == "input.2"


def test_the_client_of_openai_gets_the_right_width(server: Running) -> None:
    """huggingface/text-embeddings-inference #288, lmstudio-bug-tracker #756, n8n-io/n8n #16647,
    gpustack #2284: it asks for base64 by itself."""
    client = server.client()
    own = np.array([row.embedding for row in client.embeddings.create(
        model="vectors", input=TEXTS).data])  # fmt: skip
    floats = server.post("/v1/embeddings", model="vectors", input=TEXTS).json()["data"]
    assert own.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(own, [row["embedding"] for row in floats], atol=1e-7)


def test_tokens_give_the_vector_of_their_text(server: Running) -> None:
    """OpenAI's embeddings take arrays of tokens."""
    tokenizer = server.models.named("vectors").predictor.tokenizer
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    client = server.client()
    texts = client.embeddings.create(model="vectors", input=TEXTS).data
    tokens = client.embeddings.create(model="vectors", input=ids).data
    for a, b in zip(texts, tokens, strict=True):
        np.testing.assert_allclose(a.embedding, b.embedding, atol=1e-6)
    (single,) = client.embeddings.create(model="vectors", input=ids[0]).data
    np.testing.assert_allclose(single.embedding, texts[0].embedding, atol=1e-6)


def test_the_order_of_a_batch_is_that_of_the_request(server: Running) -> None:
    """elastic/elasticsearch #157735: batches are sorted by length."""
    rows = [" ".join(["good", "film", "bad", "the"][: 1 + n % 4] * (1 + n * 7 % 11))
            for n in range(40)]  # fmt: skip
    client = server.client()
    together = client.embeddings.create(model="vectors", input=rows).data
    assert [row.index for row in together] == [*range(40)]
    for n in (0, 7, 13, 39):
        (alone,) = client.embeddings.create(model="vectors", input=rows[n]).data
        np.testing.assert_allclose(together[n].embedding, alone.embedding, atol=1e-5)


def test_200_texts_are_200_texts(server: Running) -> None:
    """bentoml/BentoML #3710, #3859: a batch counts the texts in a request."""
    before = server.value("batch_rows_sum", model="classes")
    batches = server.value("batch_rows_count", model="classes")
    body = server.post("/v1/classify", model="classes", input=[*TEXTS] * 40).json()
    assert [row["index"] for row in body["data"]] == [*range(200)]
    assert server.value("batch_rows_sum", model="classes") - before == 200
    assert server.value("batch_rows_count", model="classes") - batches > 1
    (one,) = server.post("/v1/classify", model="classes", input=TEXTS[2]).json()["data"]
    assert body["data"][2]["scores"] == pytest.approx(one["scores"], abs=1e-6)


def test_a_request_has_a_budget_of_tokens(server: Running) -> None:
    """michaelfeil/infinity #517, theexperiencecompany/gaia #918."""
    refused = server.post("/v1/classify", model="classes", input=["the film " * 30] * 1500)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "request_too_large"
    many = server.post("/v1/classify", model="classes", input=["x"] * 5000)
    assert many.status_code == 400
    huge = server.post("/v1/classify", model="classes", input="x" * (5 << 20))
    assert huge.status_code == 413
    assert huge.json()["error"]["code"] == "body_too_large"


def test_a_body_that_never_says_its_length_is_cut(server: Running) -> None:
    """A stream of chunks may not fill the memory."""
    chunks = (b"x" * 65536 for _ in range(1000))
    answer = httpx.post(f"{server.url}/v1/classify", content=chunks,
                        headers={"content-type": "application/json"})  # fmt: skip
    assert answer.status_code == 413


def test_a_megabyte_is_checked_in_no_time() -> None:
    """mlflow/mlflow #7948: checking took longer than the model."""
    body = {"model": "x", "prompt": ["a" * 1000] * 1000, "max_tokens": 5}
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        CompletionRequest.model_validate(body)
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.005


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", {"model": "classes", "input": {SECRET: SECRET}}),
        ("/v1/classify", {"model": "classes", "input": [[SECRET]]}),
        ("/v1/classify", {"model": SECRET * 9, "input": "x"}),
        ("/v1/classify", {"model": "classes", "input": f"{SECRET} " * 200}),
        ("/v1/completions", {"model": "words", "prompt": f"{SECRET} " * 200}),
        ("/v1/completions", {"model": "words", "prompt": "x", "seed": SECRET}),
        ("/v1/completions", {"model": "words", "prompt": {"x": SECRET}}),
        ("/v1/chat/completions", {"model": "talk", "messages": [
            {"role": SECRET, "content": SECRET}]}),
        ("/v1/chat/completions", {"model": "talk", "messages": [
            {"role": "user", "content": SECRET, "name": SECRET}]}),
        ("/v1/chat/completions", {"model": "talk", "messages": HELLO,
                                  "response_format": {"type": SECRET}}),
        ("/v1/embeddings", {"model": "vectors", "input": [SECRET, ""]}),
        ("/v1/answer", {"model": "spans", "input": {"question": "", "context": SECRET}}),
        ("/v1/search", {"index": "x", "query": SECRET}),
    ],
)  # fmt: skip
def test_an_error_never_repeats_a_text(
    server: Running, path: str, body: Any, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """mlflow/mlflow #16537."""
    refused = server.post(path, **body)
    assert 400 <= refused.status_code < 500
    assert SECRET not in refused.text.replace(f'"param":"input.{SECRET}"', "")
    seen = caplog.text + "".join(capfd.readouterr())
    assert SECRET not in seen


@pytest.mark.parametrize("raw", [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model": "classes", "input": "\\ud800"}',
    b'{"model": "classes", "input": NaN}', b"[" * 100_000, b'{"model": 1e999}', b"{}",
])  # fmt: skip
def test_what_is_no_request_is_refused(server: Running, raw: bytes) -> None:
    """Malformed bodies are the client's error, whatever they are."""
    for path in ("/v1/classify", "/v1/completions"):
        answer = httpx.post(server.url + path, content=raw,
                            headers={"content-type": "application/json"})  # fmt: skip
        assert answer.status_code == 400, (raw[:20], answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"
    plain = httpx.post(f"{server.url}/v1/classify", content=b'{"model": "classes", "input": "x"}',
                       headers={"content-type": "text/plain"})  # fmt: skip
    assert plain.status_code == 400


def test_a_place_names_fields_and_numbers_alone() -> None:
    """What pydantic tried (`list[str]`) is nothing that a person has written."""
    loc = ("body", "input", "list[union[str,Row]]", 3, "Row", "text")
    error = of_validation([{"loc": loc, "type": "string_type", "msg": "Input should be text"}])
    assert error.param == "input.3.text"
