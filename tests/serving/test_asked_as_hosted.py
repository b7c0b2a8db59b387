"""Our own server as the host of `openai:MODEL`: one program at both ends of OpenAI's form."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import warmstart
from served import Running
from warmstart.errors import RunError

pytestmark = pytest.mark.filterwarnings("ignore::warmstart.errors.SendsTextsWarning")


@pytest.fixture(autouse=True)
def here(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_every_answer_of_a_random_model_is_a_label(tmp_path: Path):
    labels = ("good", "bad", "late")
    data = tmp_path / "rows.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((f"the film {n}", labels[n % 3]) for n in range(12))]
        )
    metrics = warmstart.evaluate("openai:talk", data, **{"engine.labels": ",".join(labels)})
    hosted = metrics["hosted"]
    assert hosted["invalid"] == {} and hosted["requests"] == 12 and hosted["input_tokens"] > 0
    assert not any("does not take" in note for note in metrics["notes"])
    answers = warmstart.predict("openai:talk", "the film", **{"engine.labels": ",".join(labels)})
    assert answers[0].value in labels and 0 < answers[0].confidence < 1


def test_texts_are_those_of_the_model_itself(server: Running):
    keys: dict[str, Any] = {"temperature": 0, "max_new_tokens": 8}
    (hosted,) = warmstart.generate("openai:talk", "the film", **keys)
    folder = str(server.models.named("talk").folder)
    (own,) = warmstart.generate(folder, "the film", **keys)
    assert hosted.text == own.text
    assert hosted.completion.mean_log_prob == pytest.approx(own.completion.mean_log_prob, abs=1e-4)
    pieces: list[str] = []
    warmstart.generate(
        "openai:talk", "the film", **keys, on_token=lambda _, __, token: pieces.append(token.text)
    )
    assert "".join(pieces) == own.text


def test_a_model_that_is_not_there_and_one_that_does_not_talk():
    with pytest.raises(RunError, match="has no model nobody"):
        warmstart.generate("openai:nobody", "the film")
    with pytest.raises(RunError, match="refuses the request"):
        warmstart.generate("openai:classes", "the film")
