"""Requests computed together: each answer is its own, and what breaks one breaks no other."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from endpoints import ENDPOINTS, check_together
from served import TEXTS, Running, slowed, wait
from warmstart.inference.engine import TokenBatch
from warmstart.serving import batching

FOUR = ("classes", "adapter-0", "adapter-1", "adapter-2")


def scores_of(server: Running, model: str, text: str) -> dict[str, float]:
    body = server.post("/v1/classify", model=model, input=text).json()
    return body["data"][0]["scores"]


def test_each_model_answers_for_itself(server: Running) -> None:
    """ray-project/ray #56633: with batches of several models the first answered for all."""
    asks = [(FOUR[n % 4], TEXTS[n % len(TEXTS)]) for n in range(64)]
    alone = {ask: scores_of(server, *ask) for ask in {*asks}}
    assert len({str(alone[model, TEXTS[0]]) for model in FOUR}) == 4
    with ThreadPoolExecutor(32) as pool:
        together = [*pool.map(lambda ask: scores_of(server, *ask), asks)]
    for ask, scores in zip(asks, together, strict=True):
        assert scores == pytest.approx(alone[ask], abs=1e-5)


def test_64_mixed_clients_with_three_adapters(server: Running) -> None:
    """Every route at once, each answer as that of the same request alone."""
    check_together(server, [*ENDPOINTS])
    documented = {path for path in server.app.openapi()["paths"] if path.startswith("/v1/")}
    assert documented - {*ENDPOINTS} == {"/v1/models", "/v1/models/{model}", "/v1/search"}


@pytest.mark.parametrize("stage", ["encode", "size", "collate", "run", "decode"])
def test_what_breaks_one_request_breaks_no_other(
    server: Running, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ray-project/ray #66140: an exception killed the task that batches, and the others hung."""
    served = server.models.named("classes")
    predictor = served.predictor
    bad = "hated hated hated"

    def check(batch: TokenBatch) -> None:
        rows = [ids[:n].tolist() for ids, n in zip(batch.ids, batch.lengths, strict=True)]
        if predictor.tokenizer(bad)["input_ids"] in rows:
            raise MemoryError("this has failed on the secret text")

    if stage == "run":
        run = predictor.runner.run
        monkeypatch.setattr(predictor.runner, "run", lambda batch: (check(batch), run(batch))[1])
    elif stage == "size":
        size = batching._Rows.__post_init__
        monkeypatch.setattr(batching._Rows, "__post_init__", lambda rows: (
            check(rows.batch), size(rows)))  # fmt: skip
    elif stage == "collate":
        join = batching._joined
        monkeypatch.setattr(batching, "_joined", lambda rows, *how: (
            [check(batch) for batch, _ in rows], join(rows, *how))[1])  # fmt: skip
    else:
        whole_stage = getattr(type(predictor.task), stage)

        def breaking(self: Any, first: Any, second: Any, *rest: Any) -> Any:
            table = first if stage == "encode" else second.table
            if bad in table["text"].to_pylist():
                raise ValueError("the task has failed on the secret text")
            return whole_stage(self, first, second, *rest)

        monkeypatch.setattr(type(predictor.task), stage, breaking)
    wanted = {text: scores_of(server, "classes", text) for text in TEXTS}
    texts = [*TEXTS, bad] * 6
    with ThreadPoolExecutor(16) as pool:
        answers = [
            *pool.map(lambda t: server.post("/v1/classify", model="classes", input=t), texts)
        ]
    for text, answer in zip(texts, answers, strict=True):
        if text == bad:
            assert answer.status_code == 500
            assert "secret" not in answer.text
        else:
            scores = answer.json()["data"][0]["scores"]
            assert scores == pytest.approx(wanted[text], abs=1e-5)


def test_a_full_queue_says_so(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """LitServe #52, ray #37942: back-pressure is a 429 that says when to come again."""
    monkeypatch.setattr(server.models.named("words").gate, "_limit", 3)
    with slowed(server.models, "words", 0.02), ThreadPoolExecutor(12) as pool:
        body = {"model": "words", "prompt": "the film", "max_tokens": 12}
        answers = [*pool.map(lambda n: server.post("/v1/completions", **body), range(12))]
    statuses = [answer.status_code for answer in answers]
    assert {*statuses} == {200, 429}
    refused = answers[statuses.index(429)]
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) >= 1


def test_deadlines_are_503_and_504(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning-AI/LitServe #52, ray-project/ray #37942: never a 500, never silent."""
    models = server.models
    how: dict[str, Any] = {"model": "words", "prompt": "the film", "max_tokens": 20}
    how["temperature"] = 0  # what is drawn may end at once
    short = models.settings.model_copy(update={"queue_seconds": 0.2, "run_seconds": 0.4})
    monkeypatch.setattr(models, "settings", short)
    with slowed(models, "words", 0.05), ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.post, "/v1/completions", **how)
        wait(lambda: models.named("words").gate.inside == 1)
        time.sleep(0.1)
        late = server.post("/v1/completions", **how)
        begun = first.result()
    assert (begun.status_code, begun.json()["error"]["code"]) == (504, "run_timeout")
    assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
    assert int(late.headers["retry-after"]) >= 1
    wait(lambda: models.named("words").gate.inside == 0)
    assert server.post("/v1/completions", **how).status_code == 200


def test_an_encoder_that_hangs_is_a_504(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """LitServe #52: of the batcher too; the next request is answered."""
    models, ended = server.models, threading.Event()
    runner = models.named("value").predictor.runner
    whole = runner.run
    short = models.settings.model_copy(update={"run_seconds": 0.3})
    monkeypatch.setattr(models, "settings", short)
    monkeypatch.setattr(runner, "run", lambda batch: (ended.wait(5), whole(batch))[1])
    answer = server.post("/v1/score", model="value", input="x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "run_timeout")
    ended.set()
    assert server.post("/v1/score", model="value", input="x").status_code == 200
