"""Several tasks in one run: one body, a head each; trained, saved, proven, judged, resumed."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import warmstart
from learning import write_messages
from tiny import WORDS, tiny
from warmstart.config.recipe import Recipe
from warmstart.data.dedup.exact import normalised
from warmstart.errors import DataError, RecipeError, RunError
from warmstart.inference.predictor import open_predictor
from warmstart.models.fast.forward import FastForward
from warmstart.pipelines.multitask.prepare import prepare_tasks
from warmstart.pipelines.multitask.session import TasksSession
from warmstart.run import Run

Folder = Callable[[str], Path]
Job = Callable[..., int]
TAGS = {"red": "B-HUE", "blue": "B-HUE", "good": "B-WORD", "bad": "B-WORD"}
NO_DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "distilbert": ("dropout", "attention_dropout", "seq_classif_dropout"),
}
QUICK: dict[str, Any] = {
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.learning_rate": 3e-3,
    "train.precision": "fp32",
    "evaluate.bootstrap": 100,
    "evaluate.baselines": False,
}


@pytest.fixture(scope="session")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 sentences with tagged words."""
    path = tmp_path_factory.mktemp("tags") / "tags.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(40):
            words = "the film was not very late again".split()[: 2 + number % 5]
            words += [list(TAGS)[number % 4], "money", list(TAGS)[(number // 4) % 4]]
            row = {"tokens": words, "ner_tags": [TAGS.get(word, "O") for word in words]}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture(scope="session")
def tasks(data: Path, tags: Path) -> dict[str, Any]:
    return {"mood": {"data": str(data)}, "things": {"name": "tagging", "data": str(tags)}}


def keys(base: Path, tasks: dict[str, Any], **task: Any) -> dict[str, Any]:
    return {**QUICK, "base": str(base), "task": {"name": "multitask", "tasks": tasks, **task}}


def session_of(base: Path, tasks: dict[str, Any], **task: Any) -> TasksSession:
    return TasksSession.begin(prepare_tasks(Recipe.of(keys(base, tasks, **task))))


@pytest.fixture(scope="module")
def done(tiny_of: Folder, tasks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("multi") / "run"
    asked = keys(tiny_of("bert"), {**tasks, "words": {"name": "mlm"}}, compare=True)
    return warmstart.tune(out=str(out), **{**asked, "train.epochs": 8})


def test_a_model_for_each_task_over_one_body(done: Run) -> None:
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    mood = AutoModelForSequenceClassification.from_pretrained(done.model / "mood")
    things = AutoModelForTokenClassification.from_pretrained(done.model / "things")
    assert sorted(mood.config.label2id) == ["bad", "good", "plain"]
    assert "B-HUE" in things.config.label2id
    one, other = (load_file(done.model / name / "model.safetensors") for name in ("mood", "things"))
    body = [name for name in one if name.startswith("bert.") and "pooler" not in name]
    assert len(body) > 20
    assert all(one[name].equal(other[name]) for name in body)
    assert done.proof["shared"] == {"tensors": len(body), "equal": True}
    assert done.proof["tasks"]["mood"]["passed"] and done.proof["tasks"]["things"]["passed"]
    assert not (done.model / "words").exists()


def test_each_task_is_judged_and_told(done: Run) -> None:
    metrics = done.metrics
    found = {name: one[one["main"]]["value"] for name, one in metrics["tasks"].items()}
    assert found["things"] > 0.9
    assert metrics["mean"]["value"] == pytest.approx(np.mean(list(found.values())))
    for name in found:
        folder = done.path / "tasks" / name
        assert json.loads((folder / "metrics.json").read_text())["rows"] > 0
        assert (folder / "predictions.parquet").exists()
        assert f"tasks/{name}/report.html" in done.report.read_text()
        assert f"model/{name}" in (folder / "report.html").read_text()
    for row in done.facts["history"]:
        both = (row["score:mood"] + row["score:things"]) / 2
        assert row["validation_score"] == pytest.approx(both)
        assert row["loss:words"] > 0


def test_did_sharing_help_is_said(done: Run) -> None:
    for one in done.metrics["tasks"].values():
        alone = one["alone"]
        assert alone["outcome"] in ("better", "worse", "noise")
        assert alone["together"] == pytest.approx(one[one["main"]]["value"])
        assert alone["difference"] == pytest.approx(alone["together"] - alone["alone"])
    assert "Did sharing help?" in done.report.read_text()
    assert not (done.path / "alone").exists()


def test_predict_names_the_task(done: Run) -> None:
    answer = warmstart.predict(done.model / "mood", ["i loved the great film"])[0]
    assert answer.value in ("bad", "good", "plain")
    found = warmstart.predict(done.model / "things", ["the red film"])[0].value
    assert [(one["type"], one["start"], one["end"]) for one in found] == [("HUE", 4, 7)]
    with pytest.raises(
        RunError, match=r"model for each of its tasks.*model/mood or .*model/things"
    ):
        warmstart.predict(done.path, ["a text"])


def test_saved_folders_give_what_was_trained(
    tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    session = session_of(tiny_of("roberta"), tasks)
    session.fitting(tmp_path, []).run()
    wanted = {name: one.predict()["test"] for name, one in session.each.items()}
    session.save(tmp_path)
    for name, one in session.each.items():
        found, _ = open_predictor(tmp_path / name).outputs(one.prepared.examples["test"].table)
        np.testing.assert_allclose(found, wanted[name], atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "xlnet", "electra"])
def test_bodies_are_one_object(family: str, tiny_of: Folder, tasks: dict[str, Any]) -> None:
    from warmstart.models.architectures import body_of
    from warmstart.models.modules import head_names

    session = session_of(tiny_of(family), tasks)
    one, other = (session.each[name].model for name in ("mood", "things"))
    heads = {id(p) for n in head_names(one) for p in one.get_submodule(n).parameters()}
    ours = {id(p) for p in body_of(one).parameters()} - heads
    assert ours and ours == {id(p) for p in body_of(other).parameters()}


@pytest.mark.parametrize(("family", "words"), [("distilbert", False), ("bert", True)])
def test_the_loss_of_a_batch_is_that_of_transformers(
    family: str, words: bool, tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    extra = {"words": {"name": "mlm"}} if words else {}
    session = session_of(tiny_of(family), {**tasks, **extra})
    fit = session.fitting(tmp_path, [])
    seen: set[str] = set()
    for number, rows in enumerate(fit.train.plan(0)):
        session.together.begin_step(number)
        batch = fit.train.batches(rows, np.random.default_rng(number))[0]
        name, ids = batch.task, batch.inputs["ids"]
        if name in seen:
            continue
        seen.add(name)
        with fit.forward.evaluating():
            loss = fit.objective.loss(fit.forward, batch)
            mask = (torch.arange(ids.shape[1]) < batch.inputs["lengths"][:, None]).long()
            labels = batch.targets
            if name == "words":
                labels = torch.full_like(ids, -100)
                labels[batch.inputs["chosen"]] = batch.targets[0]
            model: Any = (session.masked if name == "words" else session.each)[name].model
            model.eval()
            found = model(input_ids=ids, attention_mask=mask, labels=labels)
        assert loss.total / loss.weight == pytest.approx(float(found.loss), abs=1e-5), name
    assert seen == {*tasks, *extra}


def test_steps_follow_the_temperature_and_go_on_from_epoch_to_epoch(
    tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    session = session_of(tiny_of("bert"), tasks, temperature=1e9)
    feed: Any = session.fitting(tmp_path, []).train
    rows = {name: len(one.prepared.rows) for name, one in session.each.items()}
    counts = feed.counts()
    assert sum(counts.values()) == sum(-(-count // 8) for count in rows.values())
    assert abs(counts["mood"] - counts["things"]) <= 1
    first, second = (np.concatenate(feed.plan(epoch)) for epoch in (0, 1))
    mood = [part[part < len(session.each["mood"].datasets["train"])] for part in (first, second)]
    once = set(mood[0].tolist())
    assert len(once) == len(mood[0]), "no row twice before all had their turn"
    left = rows["mood"] - len(mood[0])
    assert not once & set(mood[1][: min(left, 8)].tolist())
    assert [part.tolist() for part in feed.plan(1)] == [p.tolist() for p in feed.plan(1)]


def test_a_weight_scales_the_loss(tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path) -> None:
    heavy = {**tasks, "mood": {**tasks["mood"], "weight": 3}}
    losses: list[float] = []
    for asked in (tasks, heavy):
        fit = session_of(tiny_of("bert"), asked).fitting(tmp_path, [])
        feed: Any = fit.train
        (batch,) = feed.batches(np.arange(8), np.random.default_rng(0))
        assert batch.task == "mood"
        with fit.forward.evaluating():
            loss = fit.objective.loss(fit.forward, batch)
        losses.append(float(loss.total / loss.weight))
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-5)


def test_class_weights_are_for_the_tasks_that_have_classes(
    tiny_of: Folder, tasks: dict[str, Any]
) -> None:
    asked = {**keys(tiny_of("bert"), tasks), "objective.class_weights": "balanced"}
    each = prepare_tasks(Recipe.of(asked)).each
    assert each["mood"].objective.class_weights == "balanced"
    assert each["things"].objective.class_weights == "none"
    notes = [note["message"] for note in each["things"].ledger.notes]
    assert any("objective.* is for single labels" in note for note in notes)


def test_adapters_are_shared(tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path) -> None:
    run = warmstart.tune(out=str(tmp_path / "run"), method="lora", **keys(tiny_of("bert"), tasks))
    one, other = (
        load_file(run.model / name / "adapter_model.safetensors") for name in ("mood", "things")
    )
    adapters = [name for name in one if "lora_" in name]
    assert adapters and all(one[name].equal(other[name]) for name in adapters)
    assert any(one[name].abs().max() > 0 for name in adapters if "lora_B" in name)
    assert len(warmstart.predict(run.model / "things", ["a red film"])) == 1


@pytest.mark.parametrize("words", [False, True])
def test_killed_and_begun_again(
    words: bool, tiny_of: Folder, tasks: dict[str, Any], job: Job, tmp_path: Path
) -> None:
    asked = keys(tiny_of("bert"), {**tasks, **({"words": {"name": "mlm"}} if words else {})})
    asked |= {"train.checkpoint_seconds": 0, "train.precision": "bf16"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert job(data=None, out=whole, keys=asked) == 0
    assert job(data=None, out=broken, keys=asked, die={"step": 9}) == -signal.SIGKILL
    assert job(data=None, out=broken, die={"model": 1}, resume=True) == -signal.SIGKILL
    assert job(out=broken, resume=True) == 0
    for name in tasks:
        one, other = (run / "model" / name / "model.safetensors" for run in (whole, broken))
        assert one.read_bytes() == other.read_bytes()
    ours, theirs = (json.loads((run / "run.json").read_text()) for run in (whole, broken))
    assert ours["history"] == theirs["history"]
    assert not (broken / "checkpoints").exists()


def test_a_dry_run_writes_nothing(tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = warmstart.plan(out=str(out), **keys(tiny_of("bert"), tasks))
    assert not out.exists()
    assert found["steps"] > 0
    assert found["shares"]["mood"] == pytest.approx(
        found["tasks"]["mood"]["rows"]["train"] / found["rows"]["train"], abs=1e-6
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "frozen"}, "leaves the body as it is"),
        ({"method": "prompt_tuning"}, "virtual tokens"),
        ({"data.path": "x.csv"}, "reads the data of each task"),
        ({"seed": "0,1"}, "cannot be compared over several methods or seeds"),
        ({"task.tasks.mood.label": "x"}, "task.tasks.mood: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    change: dict[str, Any], said: str, tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(RecipeError) as error:
        warmstart.tune(out=str(out), **keys(tiny_of("bert"), tasks), **change)
    assert said in str(error.value)
    assert not out.exists()


def test_one_task_or_a_decoder_that_should_guess_words_is_refused(
    tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    alone = {"mood": tasks["mood"]}
    with pytest.raises(RecipeError, match="at least two tasks"):
        warmstart.tune(out=str(tmp_path / "a"), **keys(tiny_of("bert"), alone))
    words = {**alone, "words": {"name": "mlm"}}
    with pytest.raises(RecipeError, match="mlm|no mask token"):
        warmstart.tune(out=str(tmp_path / "a"), **keys(tiny_of("gpt2"), words))
    missing = {**tasks, "mood": {"data": str(tmp_path / "none.csv")}}
    with pytest.raises(DataError, match=r"task\.tasks\.mood: "):
        warmstart.tune(out=str(tmp_path / "a"), **keys(tiny_of("bert"), missing))


def test_words_of_a_text_file_are_guessed(
    tiny_of: Folder, tasks: dict[str, Any], tmp_path: Path
) -> None:
    texts = tmp_path / "texts.csv"
    write_messages(texts, 40, seed=9)
    entry = {"name": "mlm", "data": str(texts), "share": 0.3}
    session = session_of(tiny_of("bert"), {"mood": tasks["mood"], "words": entry})
    store = session.prepared.texts["words"].stores
    assert len(store["train"]) + len(store["validation"]) <= 40
    fit = session.fitting(tmp_path, [])
    nll = fit.validation.evaluate(fit.forward).outputs["words"].figures["loss"]
    fit.run()
    figures = session.score(fit.validation.evaluate(fit.forward).outputs)
    assert figures["loss:words"] < nll


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_fast_way_gives_the_gradients_of_the_slow_one(
    family: str, tasks: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warmstart.pipelines.multitask import session as together

    none = dict.fromkeys(NO_DROPOUT[family], 0.0)
    base = tiny(family, tmp_path / "base", WORDS, 0, **none)
    quick = together.forwards_for
    found: list[dict[str, dict[str, torch.Tensor]]] = []
    for fast in (True, False):

        def computes(models: Any, fast: bool, wanted: bool = fast) -> Any:
            return quick(models, fast=wanted)

        monkeypatch.setattr(together, "forwards_for", computes)
        asked = {**keys(base, tasks), "train.active_vocabulary": False}
        session = TasksSession.begin(prepare_tasks(Recipe.of(asked)))
        assert all(isinstance(one.forward, FastForward) == fast for one in session.each.values())
        fit = session.fitting(tmp_path, [])
        feed: Any = fit.train
        grads: dict[str, dict[str, torch.Tensor]] = {}
        first = len(session.each["mood"].datasets["train"])
        for name, rows in (("things", np.arange(first, first + 8)), ("mood", np.arange(8))):
            fit.forward.begin_epoch(0)
            fit.forward.begin_step(0)
            (batch,) = feed.batches(rows, np.random.default_rng(0))
            fit.objective.loss(fit.forward, batch).total.backward()
            fit.forward.collect(accumulate=False)
            grads[name] = {
                key: weight.grad.clone()
                for key, weight in fit.model.named_parameters()
                if weight.grad is not None
            }
            fit.forward.after_step()
        found.append(grads)
    for name, ours in found[0].items():
        assert len(ours) > 20
        for key, wanted in found[1][name].items():
            torch.testing.assert_close(ours[key], wanted, atol=1e-4, rtol=1e-3, msg=f"{name} {key}")
        other = "mood" if name == "things" else "things"
        assert not any(key.startswith(f"{other}.classifier") for key in ours)


def test_no_task_is_trained_on_what_another_is_judged_by(tiny_of: Folder, tmp_path: Path) -> None:
    """Two tasks over nearly the same texts, one that brings its own test split, and texts whose
    words are guessed: a text stands on one side in all of them."""
    texts = [f"the {word} film number{i} was not late" for i in range(60)
             for word in (list(TAGS)[i % 4],)]  # fmt: skip
    mood = tmp_path / "mood.csv"
    rows = [f"{text},{'pos' if i % 2 else 'neg'}" for i, text in enumerate(texts[:50])]
    mood.write_text("\n".join(["text,label", *rows]))
    tagged = [{"tokens": text.split(), "ner_tags": [TAGS.get(w, "O") for w in text.split()]}
              for text in texts[10:]]  # fmt: skip
    things = tmp_path / "things.jsonl"
    things.write_text("\n".join(map(json.dumps, tagged)))
    topic = tmp_path / "topic"
    topic.mkdir()
    (topic / "train.csv").write_text(
        "text,label\n"
        + "".join(f"{text},{'x' if i % 3 else 'y'}\n" for i, text in enumerate(texts[:40]))
    )
    (topic / "test.csv").write_text(
        "text,label\n"
        + "".join(f"{text},{'x' if i % 3 else 'y'}\n" for i, text in enumerate(texts[40:]))
    )
    words = tmp_path / "words.txt"
    words.write_text("\n".join([*texts, *(f"other words {i} here" for i in range(40))]))
    tasks = {
        "mood": {"data": str(mood)},
        "things": {"name": "tagging", "data": str(things)},
        "topic": {"data": str(topic)},
        "words": {"name": "mlm", "data": str(words)},
    }
    prepared = prepare_tasks(Recipe.of(keys(tiny_of("bert"), tasks) | {"data.max_dropped": 1.0}))

    def read(table: Any) -> set[str]:
        role = "text" if "text" in table.column_names else "tokens"
        return {normalised(text) for text in table[role].to_pylist()}

    seen = {name: [read(getattr(own.splits, split)) for split in ("train", "validation", "test")]
            for name, own in prepared.each.items()}  # fmt: skip
    for name, (train, _, _) in seen.items():
        for other, (_, validation, test) in seen.items():
            assert not train & (validation | test), (name, other)
        assert len(train) >= 15, "cut alike, few rows have to go"
    held = set.union(*(test | validation for _, validation, test in seen.values()))
    rows_left = len(prepared.texts["words"].stores["train"])
    assert rows_left < 90 - len(held) * 0.5
    summary = prepared.ledger.summary()
    assert any("also in validation or test of task" in reason for reason in summary["dropped"])


def test_near_copies_of_what_another_task_is_judged_by(tiny_of: Folder, tmp_path: Path) -> None:
    """They are told with their share; `data.near_copies drop` takes them out."""
    words = [f"word{n}" for n in range(400)]
    rng = random.Random(0)
    texts = [" ".join(rng.sample(words, 14)) for _ in range(60)]
    for name, own in (("mood", texts), ("topic", [f"{text} indeed" for text in texts])):
        (tmp_path / name).mkdir()
        parts = {"train": own[:30] + own[40:], "test": own[30:40]}
        if name == "topic":  # ten of its rows to train on nearly stand in the test of mood
            parts = {"train": own[:40], "test": own[40:]}
        for split, rows in parts.items():
            lines = (f"{text},{'ab'[i % 2]}" for i, text in enumerate(rows))
            (tmp_path / name / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    tasks = {name: {"data": str(tmp_path / name)} for name in ("mood", "topic")}
    asked = keys(tiny_of("bert"), tasks) | {"data.max_dropped": 1.0}
    kept = prepare_tasks(Recipe.of(asked)).each["topic"]
    said = [note["message"] for note in kept.ledger.notes if note["kind"] == "leakage"]
    assert any("nearly repeat a text in validation or test of task mood" in x for x in said), said
    fewer = prepare_tasks(Recipe.of(asked | {"data.near_copies": "drop"}))
    left = fewer.each["topic"].splits.train["text"].to_pylist()
    held = {f"{text} indeed" for text in texts[30:40]}
    assert held & set(kept.splits.train["text"].to_pylist()) and not held & set(left)
    assert "nearly in validation or test of task mood" in str(fewer.ledger.summary()["dropped"])
