"""`compress` with a hosted model as teacher: our own server labels the texts, or answers them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import warmstart
from chats import talker
from served import Running
from tiny import tiny
from warmstart.errors import RecipeError, RunError

pytestmark = [
    pytest.mark.filterwarnings("ignore::warmstart.errors.SendsTextsWarning"),
    pytest.mark.usefixtures("tried_here"),
]
TEACHER = "openai:talk"
QUICK = {"train.epochs": 1, "evaluate.bootstrap": 100, "evaluate.baselines": False}
ALL = {**QUICK, "compress.allowed_loss": 100, "compress.teacher": TEACHER,
       "engine.price_input": 1.0, "engine.price_output": 2.0}  # fmt: skip
NOUNS = "film book song service food movie order money".split()


@pytest.fixture(autouse=True)
def here(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run_of(folder: Path, task: str, base: Path) -> Any:
    """A tiny run of 16 rows or so."""
    pairs = [(f"the {kind} {noun}", "yes" if kind == "good" else "no") for noun in NOUNS
             for kind in ("good", "bad", "not very good")]  # fmt: skip
    names = {"classification": ("text", "label"), "text2text": ("source", "target")}
    if task == "chat":
        rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
                for a, b in pairs]  # fmt: skip
    else:
        rows = [dict(zip(names[task], pair, strict=True)) for pair in pairs]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return warmstart.tune(data, out=folder / "run", task=task, base=str(base), **QUICK,
                          **{"data.near_copies": "keep"})  # fmt: skip


def more(folder: Path) -> str:
    path = folder / "more.txt"
    path.write_text("".join(f"a {noun} again\n" for noun in NOUNS), encoding="utf-8")
    return str(path)


def test_texts_are_labelled_by_it_within_a_budget(tmp_path: Path, server: Running) -> None:
    run = run_of(tmp_path, "classification", tiny("bert", tmp_path / "bert"))
    keys = {**ALL, "compress.texts": more(tmp_path)}
    with pytest.raises(RunError, match="max_cost"):
        warmstart.compress(run, method="distill", **keys, **{"engine.max_cost": 1e-7})
    assert not run.path.with_name("run-compressed").exists()
    made = warmstart.compress(run, method="distill", **keys, **{"engine.keep": str(tmp_path / "k")})
    notes = made.summary["products"][0]["notes"]
    assert notes[1] == f"learns from 8 more texts of {tmp_path / 'more.txt'}, as {TEACHER} says"
    assert any("cost" in note for note in notes[2:]), notes
    answers = (tmp_path / "k").read_text(encoding="utf-8").splitlines()
    assert len(answers) == 8
    student = made.runs["distill"]
    assert student.facts["speed"]["rows"] == run.facts["rows"]["train"] + 8
    log = json.loads((student.path / "log.jsonl").read_text().splitlines()[0])
    assert "soft_loss" not in log, "there are no probabilities to learn"


def test_tasks_in_which_none_is_asked_are_refused() -> None:
    from warmstart.compression.distill import Distill
    from warmstart.tasks.few_shot import FewShot

    source: Any = SimpleNamespace(task=FewShot())
    with pytest.raises(RecipeError, match="a hosted model teaches in task .* or chat, and this is"):
        Distill(teacher=TEACHER, texts="more.txt").check(source)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text2text", "chat"])
def test_prompts_are_answered_by_it(task: str, tmp_path: Path, server: Running) -> None:
    from warmstart.inference.hosted import open_teacher
    from warmstart.inference.openai import OpenAI
    from warmstart.inference.predictor import open_predictor

    base = tmp_path / "base"
    run = run_of(tmp_path, task, talker(base) if task == "chat" else tiny("llama", base))
    keys = {**ALL, "compress.texts": more(tmp_path), "engine.max_new_tokens": 8}
    made = warmstart.compress(run, method="distill", **keys)
    notes = made.summary["products"][0]["notes"]
    assert f"more texts of {tmp_path / 'more.txt'}, as {TEACHER} says" in notes[1]
    own = open_predictor(run.path)
    teacher = open_teacher(TEACHER, OpenAI(), own.task, [], None)
    (answer,) = teacher.answers(own.table(["the film"]))
    keys = {"temperature": 0, "max_new_tokens": own.task.max_new_tokens}
    (text,) = warmstart.generate(TEACHER, "the film", **keys)
    assert answer.value == text.text.strip()
