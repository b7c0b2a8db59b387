"""Hosted models, asked through the real client over a real socket."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import warmstart
from openai_host import Fault, HostServer, host
from warmstart.errors import RecipeError, RunError, SendsTextsWarning
from warmstart.inference.hosted import NO_ANSWER

pytest.importorskip("openai", reason="the extra openai is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::warmstart.errors.SendsTextsWarning")
MODEL = "openai:tiny-1"
ROWS = [("a good film", "pos"), ("a bad film", "neg"), ("good fun", "pos"), ("so bad", "neg"),
        ("good, good", "pos"), ("bad, bad", "neg")]  # fmt: skip
PRICES = {"engine.price_input": 1_000, "engine.price_output": 2_000}


def judge(request: Mapping[str, Any]) -> str:
    text = request["messages"][-1]["content"]
    label = "neg" if "bad" in text else "pos"
    return json.dumps({"label": label}) if "response_format" in request else label


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostServer]:
    with host(judge) as own:
        monkeypatch.setenv("OPENAI_BASE_URL", own.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-key-of-mine")
        yield own


def written(path: Path, rows: Any, *columns: str) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns or ("text", "label"), *rows])
    return path


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return written(tmp_path / "train.csv", ROWS)


def test_labels_come_from_examples_that_are_shown(server: HostServer, examples: Path):
    keys: dict[str, Any] = {"engine.examples": examples, "engine.shots": 2}
    (answer,) = warmstart.predict(MODEL, "this is bad", **keys)
    assert answer.value == "neg"
    # {"label": "neg"} is two words, and "neg"} the second of them
    assert answer.confidence == pytest.approx(math.exp(-0.25))
    assert set(answer.scores) == {"pos", "neg"}
    assert sum(answer.scores.values()) == pytest.approx(1)
    (request,) = server.asked
    assert request["model"] == "tiny-1" and request["temperature"] == 0
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["neg", "pos"]
    turns = request["messages"][1:-1]
    shown = [json.loads(turn["content"])["label"] for turn in turns if turn["role"] == "assistant"]
    assert sorted(shown) == ["neg", "neg", "pos", "pos"]
    assert request["messages"][-1] == {"role": "user", "content": "this is bad"}
    assert server.headers[0]["Authorization"] == "Bearer secret-key-of-mine"


def test_a_row_that_is_asked_is_never_among_its_own_examples(server: HostServer, examples: Path):
    metrics = warmstart.evaluate(MODEL, examples, **{"engine.examples": examples})
    assert metrics["accuracy"]["value"] == 1
    texts = {text for text, _ in ROWS}
    for request in server.asked:
        assert not texts & {turn["content"] for turn in request["messages"][:-1]}


def test_answers_that_are_no_label_are_counted_and_wrong(server: HostServer, tmp_path: Path):
    odd = {"one": "I like it", "two": '{"label": "po', "three": "", "four": "Pos."}
    server.answer = lambda request: odd.get(request["messages"][-1]["content"], "pos")
    test = written(tmp_path / "test.csv", [(text, "pos") for text in [*odd, "five", "six"]])
    keys = {"engine.labels": "pos,neg"}
    metrics = warmstart.evaluate(MODEL, test, out=tmp_path / "out", **keys)
    assert metrics["accuracy"]["value"] == pytest.approx(3 / 6)  # "Pos." is the label
    assert metrics["hosted"]["invalid"] == {"other words": 1, "of another form": 1, "empty": 1}
    assert any("3 answers were none of the labels" in note for note in metrics["notes"])
    rows = warmstart.predict(MODEL, [*odd, "five"], **keys)
    values = [row.value for row in rows]
    assert values == [NO_ANSWER, NO_ANSWER, NO_ANSWER, "pos", "pos"]


def test_a_host_without_probabilities_is_not_called_sure(server: HostServer, examples: Path):
    server.gives_logprobs = False
    metrics = warmstart.evaluate(MODEL, examples, **{"engine.labels": ("pos", "neg")})
    assert "calibration" not in metrics and metrics["accuracy"]["value"] == 1
    assert any("confidence" in note and "means nothing" in note for note in metrics["notes"])


def test_a_model_that_thinks_first_may_be_given_room(server: HostServer):
    server.answer, server.finish = lambda request: '{"label": "po', "length"
    notes: list[str] = []
    keys: dict[str, Any] = {"engine.labels": "pos,neg"}
    (answer,) = warmstart.predict(MODEL, "good", notes=notes, **keys)
    assert answer.value == NO_ANSWER and any("max_new_tokens" in note for note in notes)
    warmstart.predict(MODEL, "good", **keys, **{"engine.max_new_tokens": 2000})
    rooms = [request["max_completion_tokens"] for request in server.asked]
    assert rooms == [36, 2000]


def test_what_a_host_does_not_take_is_left_out_and_said(server: HostServer):
    server.refuses = {"max_completion_tokens", "logprobs", "temperature", "response_format"}
    notes: list[str] = []
    keys = {"engine.labels": "pos,neg", "engine.concurrency": 1}
    answers = warmstart.predict(MODEL, ["good", "bad"], notes=notes, **keys)
    assert [answer.value for answer in answers] == ["pos", "neg"]
    last = server.asked[-1]
    assert last["max_tokens"] and not server.refuses & last.keys()
    assert len(server.asked) == 4 + 2  # each field is learned once
    said = " ".join(notes)
    for words in ("not take logprobs", "not take temperature", "not held to the labels"):
        assert words in said


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_is_repeated_after_the_time_that_the_host_names(server: HostServer, status: int):
    body = '{"error": {"message": "slower, please"}}'
    server.faults = [Fault(status, body, {"Retry-After": "0.3"})]
    notes: list[str] = []
    (answer,) = warmstart.predict(MODEL, "good", notes=notes, **{"engine.labels": "pos,neg"})
    assert answer.value == "pos"
    first, second = server.times
    assert 0.3 <= second - first < 2
    assert any("1 request was repeated" in note for note in notes)


def failure(keys: Mapping[str, Any], text: str = "good") -> str:
    with pytest.raises(RunError) as caught:
        warmstart.predict(MODEL, text, **{"engine.labels": "pos,neg", **keys})
    words = str(caught.value)
    assert "secret-key" not in words and "\n" not in words
    return words


def test_what_goes_wrong_is_said_in_one_sentence(
    server: HostServer, monkeypatch: pytest.MonkeyPatch
):
    soon = {"Retry-After": "0.01"}
    once: dict[str, Any] = {"engine.retries": 1}
    server.faults = [Fault(500, headers=soon)] * 2
    assert "failed, in 2 tries (the model fell over)" in failure(once)
    server.faults = [Fault(429, '{"error": {"message": "quota is used up"}}', soon)] * 2
    assert "requests_per_minute" in failure(once)
    server.faults = [Fault(200, "{broken")] * 2
    assert "no JSON" in failure(once)
    server.faults = [Fault(200, '{"choices": []}')] * 2
    assert "no JSON" in failure(once)
    server.faults = [Fault(401, '{"error": {"message": "wrong key"}}')]
    assert "does not accept the key in OPENAI_API_KEY" in failure(once)
    server.faults = [Fault(404, '{"error": {"message": "no such model"}}')]
    assert "has no model tiny-1 at /v1" in failure(once)
    server.faults = [Fault(wait=0.6)] * 2
    assert "gave no answer within 0.2 s" in failure({**once, "engine.timeout": 0.2})
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert "cannot reach 127.0.0.1:9" in failure({"engine.retries": 0})
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "set OPENAI_API_KEY" in failure({})


def test_a_budget_is_never_passed_and_what_was_paid_for_is_kept(server: HostServer, tmp_path: Path):
    texts = [f"text {number} is good" for number in range(40)]
    kept = tmp_path / "answers.jsonl"
    keys: dict[str, Any] = {"engine.labels": "pos,neg", "engine.max_cost": 1.5, **PRICES,
                            "engine.keep": kept, "engine.concurrency": 2}  # fmt: skip
    with pytest.raises(RunError, match=r"stopped before max_cost 1.5 is passed") as caught:
        warmstart.predict(MODEL, texts, **keys)
    assert "--engine.max_cost" in str(caught.value)
    done = len(server.asked)
    spent = sum(
        1e-3 * used["prompt_tokens"] + 2e-3 * used["completion_tokens"]
        for request in server.asked for used in [server.reply(request)["usage"]]
    )  # fmt: skip
    assert 0.8 < spent <= 1.5 and 0 < done < 40
    assert len(kept.read_text().splitlines()) == done
    assert "is good" not in kept.read_text()
    notes: list[str] = []
    answers = warmstart.predict(MODEL, texts, notes=notes, **{**keys, "engine.max_cost": 1e6})
    assert [answer.value for answer in answers] == ["pos"] * 40
    assert len(server.asked) == 40  # and none of them twice
    assert any(f"{done} answers came from" in note for note in notes)


def test_a_budget_without_prices_is_refused(server: HostServer):
    with pytest.raises(RecipeError, match="price_input"):
        warmstart.predict(MODEL, "good", **{"engine.labels": "a,b", "engine.max_cost": 1})
    assert not server.asked


def test_an_answer_that_was_broken_off_on_disk_is_asked_again(server: HostServer, tmp_path: Path):
    kept = tmp_path / "answers.jsonl"
    keys: dict[str, Any] = {"engine.labels": "pos,neg", "engine.keep": kept,
                            "engine.concurrency": 1}  # fmt: skip
    warmstart.predict(MODEL, ["good", "bad"], **keys)
    kept.write_bytes(kept.read_bytes()[:-20])
    warmstart.predict(MODEL, ["good", "bad"], **keys)
    assert len(server.asked) == 3 and len(kept.read_text().splitlines()) == 2
    kept.write_text("anything\nelse\n")
    with pytest.raises(RunError, match=r"answers\.jsonl:1 is no line of kept answers"):
        warmstart.predict(MODEL, "good", **keys)


def test_it_is_said_where_texts_go_before_they_go(server: HostServer):
    with pytest.warns(SendsTextsWarning) as heard:
        warmstart.predict(MODEL, "good", **{"engine.labels": "pos,neg"})
    words = str(heard[0].message)
    assert server.url in words and "tiny-1" in words and "the texts" in words
    with pytest.warns(SendsTextsWarning, match="the prompts are sent to"):
        warmstart.generate(MODEL, "good")


def test_no_more_at_once_and_in_a_minute_than_was_allowed(server: HostServer):
    server.faults = []
    keys: dict[str, Any] = {"engine.labels": "pos,neg", "engine.concurrency": 2,
                            "engine.requests_per_minute": 600}  # fmt: skip
    begin = time.monotonic()
    warmstart.predict(MODEL, [f"good {n}" for n in range(6)], **keys)
    assert time.monotonic() - begin >= 0.5 and server.most_at_once <= 2


def test_texts_are_written_streamed_and_talked_about(server: HostServer):
    server.answer = lambda request: f"you said {request['messages'][-1]['content']}"
    keys: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": 7}
    texts = warmstart.generate(MODEL, ["one", "two"], num_return_sequences=2, **keys)
    assert [text.text for text in texts] == ["you said one"] * 2 + ["you said two"] * 2
    seeds = sorted(request["seed"] for request in server.asked)
    assert seeds == [7, 7, 8, 8]
    assert server.asked[0]["top_p"] == 0.9 and server.asked[0]["stop"] == ["END"]
    pieces: list[str] = []
    warmstart.generate(
        MODEL, "three", on_token=lambda column, prompt, token: pieces.append(token.text)
    )
    assert pieces == ["you ", "said ", "three", ""]
    chat = warmstart.chat(MODEL, system="Be brief.")
    assert chat.say("hello").text == "you said hello"
    chat.say("again")
    roles = [message["role"] for message in server.asked[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_settings_that_no_host_takes_are_refused(server: HostServer):
    with pytest.raises(RecipeError, match="top_k is no setting that a hosted model takes"):
        warmstart.generate(MODEL, "one", top_k=3)
    with pytest.raises(RecipeError, match="leave --raw out"):
        warmstart.generate(MODEL, "one", raw=True)
    with pytest.raises(RecipeError, match=r"give --engine\.examples"):
        warmstart.predict(MODEL, "one")
    with pytest.raises(RecipeError, match="no model; write its name"):
        warmstart.predict("openai:", "one", **{"engine.labels": "a,b"})
    with pytest.raises(RecipeError, match="not by onnx"):
        warmstart.predict(MODEL, "one", engine="onnx")
    assert not server.asked


def test_a_text_task_is_judged_as_that_of_a_saved_model(server: HostServer, tmp_path: Path):
    server.answer = lambda request: "a short text"
    rows = [(f"a long text number {n}", "a short text") for n in range(6)]
    data = written(tmp_path / "data.csv", rows, "document", "summary")
    metrics = warmstart.evaluate(MODEL, data, task="summarization")
    assert metrics["main"] == "rougeL" and metrics["rougeL"]["value"] == pytest.approx(1)
    assert "Summarise" in server.asked[0]["messages"][0]["content"]
    with pytest.raises(RecipeError, match="is not asked in task|and not in tagging"):
        warmstart.evaluate(MODEL, data, task="tagging")


def test_hosted_and_saved_models_stand_in_one_table(
    server: HostServer, tmp_path: Path, classifier_of: Path
):
    labels = ("no", "maybe", "yes")
    server.answer = lambda request: json.dumps({"label": request["messages"][-1]["content"][-3:]})
    rows = [(f"text {n} {labels[n % 3]:>3.3}", labels[n % 3]) for n in range(12)]
    data = written(tmp_path / "data.csv", rows)
    keys: dict[str, Any] = {"engine.labels": ",".join(labels), **PRICES, "evaluate.bootstrap": 100}
    made = warmstart.evaluate([classifier_of, MODEL], data, out=tmp_path / "table", **keys)
    first, second = made["models"]
    assert made["best"] == first["model"] == MODEL and first["outcome"] == "best"
    assert second["model"] == str(classifier_of) and second["against"]["difference"] < 0
    assert first["cost_per_1000"] > 0 and second["cost_per_1000"] is None
    assert first["milliseconds"] > 0 and second["milliseconds"] > 0
    assert first["metrics"]["hosted"]["invalid"]  # "aybe" is no label
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == [
        "1-model", "2-tiny-1", "leaderboard.json"]  # fmt: skip
    kept = json.loads((tmp_path / "table" / "leaderboard.json").read_text())
    assert kept["best"] == MODEL


def test_the_command_line_says_where_texts_go_and_what_it_cost(
    server: HostServer, tmp_path: Path, classifier_of: Path, capsys: pytest.CaptureFixture[str]
):
    from warmstart.cli.main import main

    server.answer = lambda request: '{"label": "yes"}'
    data = written(tmp_path / "data.csv", [(f"text {n}", "yes") for n in range(4)])
    labels = ["--engine.labels", "no,maybe,yes"]
    prices = ["--engine.price_input", "1000", "--engine.price_output", "2000"]
    words = ["evaluate", f"{classifier_of},{MODEL}", str(data), *labels, *prices]
    assert main([*words, "--evaluate.bootstrap", "100"]) == 0
    out, err = capsys.readouterr()
    assert "cost of 1,000 rows" in out and f"\n{MODEL} " in out
    assert f"note: the texts are sent to {server.url} (model tiny-1)" in err
    assert "was asked 4 times" in err and "cost" in err
    assert main(["predict", MODEL, "a text", *labels, *prices, "--engine.max_cost", "0.001"]) == 2
    err = capsys.readouterr().err
    assert err.count("warmstart: ") == 1 and "stopped before max_cost 0.001 is passed" in err


@pytest.fixture(scope="module")
def classifier_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny import classifier

    return classifier("bert", tmp_path_factory.mktemp("saved") / "model")
