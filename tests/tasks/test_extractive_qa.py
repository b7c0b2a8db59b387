"""From a SQuAD 2 file to answers: what is trained on, chosen, saved, judged and told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import warmstart
from tiny import tiny
from warmstart.cli.output import run as show
from warmstart.errors import DataError
from warmstart.evaluation.baselines.rules import QuestionSentence, QuestionWindow
from warmstart.run import Run
from warmstart.tasks.base import Examples
from warmstart.tasks.extractive_qa.decoding import SpanPrediction
from warmstart.tasks.extractive_qa.task import UNANSWERABLE, ExtractiveQA, marked

NAMED = "film movie song book service food".split()
SAID = "great good fine nice bad awful poor".split()
FILLERS = "the a is was not very it this that again money back late early".split()


def squad(passages: int, seed: int = 0) -> dict[str, Any]:
    """Passages with four questions each: two with an answer, two without."""
    rng, found = random.Random(seed), list[Any]()
    for number in range(passages):
        words = rng.choices(FILLERS, k=rng.randint(4, 60))
        things = rng.sample(NAMED, k=4)
        for thing in things[:2]:
            place = rng.randrange(len(words) + 1)
            words[place:place] = [thing, rng.choice(SAID)]
        context, questions = " ".join(words), list[Any]()
        for thing in things:
            start = context.find(f"{thing} ") + len(thing) + 1 if thing in words else -1
            text = context[start:].split()[0] if start > 0 else ""
            gold = [{"text": text, "answer_start": start}] if text in SAID else []
            questions.append(
                {
                    "id": f"{number}-{thing}",
                    "question": f"the {thing} was ?",
                    "answers": gold,
                    "is_impossible": not gold,
                }
            )
        found.append({"context": context, "qas": questions})
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": found}]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("qa")
    (folder / "squad.json").write_text(json.dumps(squad(40)))
    return warmstart.tune(
        str(folder / "squad.json"), out=str(folder / "run"), task="extractive_qa",
        base=str(tiny("bert", folder / "base")), **{"task.stride": 8, "data.max_dropped": 0.5},
        **{"train.epochs": 6, "train.learning_rate": 3e-3, "evaluate.bootstrap": 200},
    )  # fmt: skip


@pytest.fixture(scope="module")
def predictions(run: Run) -> list[dict[str, Any]]:
    return pq.read_table(run.path / "predictions.parquet").to_pylist()


def test_a_run_is_whole(run: Run, predictions: list[dict[str, Any]]) -> None:
    metrics = run.metrics
    assert metrics["rows"] == len(predictions) > 10
    assert metrics["main"] == "f1"
    assert {"f1", "exact_match", "has_answer_f1", "no_answer_f1"} <= set(metrics["titles"])
    assert [one["name"] for one in metrics["baselines"]] == ["nothing", "sentence", "window"]
    assert run.proof["passed"]
    assert run.report.exists()
    for row in predictions:
        golds = [gold["text"] for gold in json.loads(row["answers"])]
        assert row["exact_match"] == float(row["prediction"] in (golds or [""]))
        if row["start"] is not None:
            end = row["start"] + len(row["prediction"])
            assert row["context"][row["start"] : end] == row["prediction"]
    assert np.mean([row["f1"] for row in predictions]) == pytest.approx(metrics["f1"]["value"])


def test_the_questions_on_a_passage_stay_together(
    run: Run, predictions: list[dict[str, Any]]
) -> None:
    tested = {row["id"].split("-")[0] for row in predictions}
    assert all(
        sum(row["id"].startswith(f"{number}-") for row in predictions) == 4 for number in tested
    )


def test_the_threshold_is_saved_and_used(run: Run, predictions: list[dict[str, Any]]) -> None:
    kept = json.loads((run.model / "warmstart.json").read_text())["task"]
    assert 0 <= kept["no_answer_threshold"] <= 1
    assert kept["max_answer_tokens"] == 1
    assert run.metrics["no_answer_threshold"] == kept["no_answer_threshold"]
    asked = [{"question": row["question"], "context": row["context"]} for row in predictions]
    for answer, row in zip(run.predict(asked), predictions, strict=True):
        assert answer.value == row["prediction"]
        assert getattr(answer, "start") == row["start"]  # noqa: B009
        assert answer.confidence == pytest.approx(row["confidence"], abs=1e-4)


def unsure(run: Run, odds: float) -> tuple[ExtractiveQA, np.ndarray, Examples]:
    """The task before it was settled, and outputs that find every answer and tell the questions
    without one apart, but on the wrong side of 0.5: "no answer" has `odds` more everywhere."""
    from warmstart.inference.predictor import open_predictor

    predictor = open_predictor(run.model)
    context = "film was good and the book was bad"
    asked = [(f"the {word} was ?", context) for word in ("film", "song", "book", "food")]
    golds = [[{"text": "good", "start": 9}], [], [{"text": "bad", "start": 31}], []]
    table = predictor.table(asked)
    table = table.append_column("answers", pa.chunked_array([[json.dumps(one) for one in golds]]))
    _, examples = predictor.outputs(table)
    examples = Examples(table, examples.store, [UNANSWERABLE], examples.tokenizer)
    store = examples.store
    logits = np.zeros((len(store.ids), 2), np.float32)
    for row, gold in enumerate(golds):
        begin = int(store.offsets[row])
        logits[begin] = odds
        logits[begin + store.targets[row], [0, 1]] += 6.0 if gold else 4.0
    return ExtractiveQA(), logits, examples


@pytest.mark.parametrize("odds", [0.0, 9.0, -9.0])
def test_an_epoch_is_scored_with_the_threshold_that_it_would_get(run: Run, odds: float) -> None:
    task, logits, examples = unsure(run, odds)
    assert task.score(logits, examples)["f1"] == 1.0
    splits = dict.fromkeys(("train", "validation"), examples)
    fitted = task.fit_thresholds(dict.fromkeys(splits, logits), splits)
    assert fitted.score(logits, examples) == task.score(logits, examples)
    fixed = ExtractiveQA(no_answer_threshold=0.5).score(logits, examples)["f1"]
    assert fixed == (1.0 if odds == 0 else 0.5), "a threshold that was named is kept"


def test_plain_transformers_gives_the_same_logits(run: Run) -> None:
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    from warmstart.inference.predictor import open_predictor

    question, context = "the film was ?", "it was late again the film good"
    predictor = open_predictor(run.model)
    ours, examples = predictor.outputs(predictor.table([(question, context)]))
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    model = AutoModelForQuestionAnswering.from_pretrained(run.model).eval()
    encoded = tokenizer(question, context, return_tensors="pt")
    assert encoded["input_ids"][0].tolist() == examples.store.ids.tolist()
    with torch.no_grad():
        theirs = model(**encoded)
    found = torch.stack([theirs.start_logits[0], theirs.end_logits[0]], -1).numpy()
    np.testing.assert_allclose(ours, found, atol=1e-5)


def test_asked_in_several_ways(run: Run, tmp_path: Path) -> None:
    question, context = "the film was ?", "the film good"
    answers = run.predict([(question, context), {"context": context, "question": question}])
    assert answers[0].value == answers[1].value
    (tmp_path / "ask.csv").write_text(f"question,context,number\n{question},{context},7\n")
    warmstart.predict(run.path, tmp_path / "ask.csv", out=tmp_path / "answered.parquet")
    told = pq.read_table(tmp_path / "answered.parquet").to_pylist()[0]
    assert list(told) == ["question", "context", "number", "prediction", "start", "confidence"]
    assert told["prediction"] == answers[0].value
    nested = tmp_path / "ask.json"
    nested.write_text(json.dumps(squad(2)))
    assert len(warmstart.predict(run.path, nested)) == 8


def test_windows_are_called_windows(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    show.run(run, as_json=False)
    said = capsys.readouterr().out
    assert f"{run.facts['speed']['rows']:,} windows in" in said and " windows/s" in said


def test_judged_again_on_other_rows(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps(squad(5, seed=9)))
    found = warmstart.evaluate(run.path, tmp_path / "other.json")
    assert found["rows"] == 20
    assert "has_answer_f1" in found
    (tmp_path / "bare.csv").write_text("question,context\nthe film,the film good\n")
    with pytest.raises(DataError, match="has no answers"):
        warmstart.evaluate(run.path, tmp_path / "bare.csv")


def table(*answers: str) -> pa.Table:
    rows = range(1, len(answers) + 1)
    return pa.table({"answers": list(answers), "_file": ["a.json"] * len(answers), "_line": rows})


def test_what_there_is_to_learn() -> None:
    task, gold = ExtractiveQA(), '[{"text": "a", "start": 0}]'
    assert task.fit_labels(table(gold)) == []
    assert task.fit_labels(table(gold, "[]")) == [UNANSWERABLE]
    with pytest.raises(DataError, match="no question has an answer"):
        task.fit_labels(table("[]"))
    with pytest.raises(DataError, match=r"has no answers.*--data\.columns\.answers"):
        task.fit_labels(table("[]").drop_columns("answers"))


def test_baselines_answer_from_the_passage() -> None:
    context = "It rained in Rome. Dr. Smith of 3.5 Hill Road wrote the book. Nobody came."
    sentence = QuestionSentence(None, 0, 0)
    assert sentence.answer("Who wrote the book?", context).endswith("wrote the book.")
    window = QuestionWindow(None, 0, 0).sized(["a", "a b c", "a b"])
    assert (window.size, window.title) == (2, "2 words beside the question's")
    assert window.answer("Who wrote the book?", context) == "Hill Road"
    assert sentence.answer("Who?", "") == window.answer("Who?", "") == ""
    assert window.sized([]).size == 1


GOLD = {"text": "in 1066", "start": 19}
CONTEXT = "The Normans landed in 1066."
Answer = Callable[..., SpanPrediction]


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        (4, 11, "The [said: Normans] landed [true: in 1066]."),
        (22, 26, "The Normans landed [true: in [said: 1066]]."),
        (12, 27, "The Normans [said: landed [true: in 1066].]"),
        (None, None, "The Normans landed [true: in 1066]."),
    ],
)
def test_mistakes_stand_marked_in_the_passage(
    start: int | None, end: int | None, shown: str
) -> None:
    answer = SpanPrediction("0", "", 1.0, {}, start, end)
    assert marked(CONTEXT, [GOLD], answer) == shown


def test_a_long_passage_is_shown_in_part() -> None:
    answer = SpanPrediction("0", "", 1.0, {}, None, None)
    far = "x" * 1000
    found = marked(far + CONTEXT + far, [{**GOLD, "start": 1019}], answer)
    assert found.startswith("…x")
    assert found.endswith("x…")
    assert "[true: in 1066]" in found
    assert len(found) < 700
    assert len(marked(far, [], answer)) < 700
