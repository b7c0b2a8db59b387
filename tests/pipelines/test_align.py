"""`align` from its request to a model that is proven, judged beside its start, and resumed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import warmstart
from preferences import write_pairs
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.objectives import preferences
from warmstart.objectives.preferences import REFERENCE
from warmstart.pipelines.align.request import alignment, taught
from warmstart.pipelines.prepare import prepare
from warmstart.pipelines.session import Session
from warmstart.pipelines.verify import PAIRS
from warmstart.run import Run
from warmstart.types import Listener

Folder = Callable[[str], Path]
KEYS: dict[str, Any] = {
    "train.precision": "fp32", "train.batch_size": 8, "train.learning_rate": 3e-3,
    "data.similarity": 0.0, "evaluate.bootstrap": 100, "train.checkpoint_seconds": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def aligned(tiny_of: Folder, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of DPO with an adapter."""
    out = tmp_path_factory.mktemp("dpo") / "run"
    more = {"method": "lora", "train.epochs": 2}
    return warmstart.align(pairs, base=str(tiny_of("llama")), out=str(out), **KEYS, **more)


def log(run: Run) -> list[dict[str, Any]]:
    lines = (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]


def test_a_run_is_judged_beside_its_start_and_simple_rules(aligned: Run) -> None:
    metrics = aligned.metrics
    assert aligned.proof["passed"] and 0 < aligned.proof["rows"] <= PAIRS
    assert metrics["accuracy"]["value"] == 1.0 and metrics["main"] == "accuracy"
    assert [row["name"] for row in metrics["baselines"]] == ["length", "bag_of_words", "untuned"]
    titles = [section["title"] for section in metrics["sections"]]
    assert {"What training changed", "Length", "What it writes", "Forgetting"} <= {*titles}
    change = metrics["sections"][titles.index("What training changed")]["rows"]
    assert change[0][3] > change[1][3]  # the chosen answers gained more than the rejected ones
    assert change[0][4] > 0
    page = aligned.report.read_text(encoding="utf-8")
    assert "What training changed" in page and "KL of a token" in page


def test_the_log_has_both_likelihoods_and_the_margin(aligned: Run) -> None:
    rows = log(aligned)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["margin"] > 0.02 and rows[-1]["preferred"] == 1
    assert {"chosen", "rejected"} <= rows[0].keys()
    assert {"validation_chosen", "validation_margin"} <= aligned.facts["history"][0].keys()


def test_the_reference_of_a_run_on_an_adapter_is_that_adapter(
    aligned: Run, pairs: Path, tmp_path: Path, tiny_of: Folder
) -> None:
    """Trap 23: and not the base below it."""
    keys = {**KEYS, "method": "lora", "train.max_steps": 2, "objective": "dpo"}
    second = warmstart.align(pairs, base=str(aligned.path), out=str(tmp_path / "run"), **keys)
    first = log(second)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    (before,) = [row for row in second.metrics["baselines"] if row["name"] == "untuned"]
    assert before["accuracy"]["value"] == aligned.metrics["accuracy"]["value"]
    from safetensors.numpy import load_file

    theirs = load_file(second.path / REFERENCE)["train"]
    base = load_file(aligned.path / REFERENCE)["train"]
    assert np.abs(theirs - base).max() > 0.1
    assert theirs[:, 0].mean() > base[:, 0].mean()


class Notes(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("name", ["dpo", "simpo"])
def test_how_long_the_evaluation_takes_is_said_before_training(
    name: str, pairs: Path, tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a reference and without it."""
    recipe = Recipe.of({**KEYS, "base": str(tiny_of("llama")), "data.path": str(pairs),
                        "task": "preference", "objective": name})  # fmt: skip
    session = Session.begin(prepare(recipe))
    objective: Any = session.objective
    objective.listen([quick := Notes()])
    assert not quick.notes
    monkeypatch.setattr(preferences, "WORTH_SAYING", 0.0)
    heard = Notes()
    objective.listen([heard])
    assert re.match(r"judging the test pairs after training.*takes about \d", heard.notes[0])


class Stops(Listener):
    """Ctrl-C after so many steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def step(self, step: Any, total: int) -> None:
        if step.index == self.after:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_it_would_have(
    aligned: Run, pairs: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    keys = {**KEYS, "method": "lora", "train.epochs": 2}
    base = str(tiny_of("llama"))
    with pytest.raises((KeyboardInterrupt, warmstart.RunError)):
        warmstart.align(pairs, base=base, out=str(tmp_path / "run"), listeners=[Stops(7)], **keys)
    run = warmstart.align(resume=tmp_path / "run")
    assert run.status == "done"
    (mine,), (whole,) = (list((r.path / "model").glob("*.safetensors")) for r in (run, aligned))
    assert mine.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("objective", ["kto", "orpo", "simpo"])
@pytest.mark.slow
def test_every_objective_learns_the_pairs(
    objective: str, pairs: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    keys = {**KEYS, "train.epochs": 2, "objective": objective}
    run = warmstart.align(pairs, base=str(tiny_of("gpt2")), out=str(tmp_path / "run"), **keys)
    rows = log(run)
    assert run.proof["passed"] and rows[-1]["margin"] > rows[0]["margin"] + 0.01


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_reward_model_rates_answers(
    family: str, pairs: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    keys = {**KEYS, "train.epochs": 8, "objective": "reward", "evaluate.forgetting": False}
    run = warmstart.align(pairs, base=str(tiny_of(family)), out=str(tmp_path / "run"), **keys)
    assert run.proof["passed"] and run.metrics["accuracy"]["value"] > 0.9
    prompt = "the film song was red ?"
    good, bad = warmstart.predict(
        run, [{"prompt": prompt, "answer": f"it was {word} film ."} for word in ("good", "awful")]
    )
    assert good.value > bad.value  # pyright: ignore[reportOperatorIssue]
    again = warmstart.evaluate(run, pairs)
    assert again["accuracy"]["value"] > 0.9


def test_a_saved_model_says_which_of_two_answers_it_prefers(aligned: Run, pairs: Path) -> None:
    answers = warmstart.predict(aligned, pairs)
    assert [answer.value for answer in answers[:5]] == ["chosen"] * 5
    assert all(0.5 <= answer.confidence <= 1 for answer in answers)
    assert warmstart.evaluate(aligned, pairs)["accuracy"]["value"] > 0.95


def test_a_dry_run_writes_nothing(pairs: Path, tiny_of: Folder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    plan = warmstart.plan(pairs, verb="align", base=str(tiny_of("llama")), out=str(out))
    task: Any = plan["recipe"].task
    assert task.part_name() == "preference" and plan["steps"] > 0 and not out.exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"begins with a model that writes: name it with --base"),
        ({"base": "BERT"}, "trains a decoder, and 'bert' is an encoder; take --base smollm2"),
        ({"base": "LLAMA", "objective": "mlm"}, "objective mlm does not align a model; take one"),
        ({"base": "LLAMA", "objective.betta": 1}, "Did you mean 'beta'"),
        ({"base": "LLAMA", "task": "language_model"}, "does not train task language_model"),
    ],
)
def test_what_cannot_be_aligned_is_refused(
    keys: dict[str, Any], message: str, pairs: Path, tiny_of: Folder
) -> None:
    named = {"BERT": "bert", "LLAMA": "llama"}
    keys = {k: str(tiny_of(named[v])) if v in named else v for k, v in keys.items()}
    with pytest.raises(RecipeError, match=message):
        warmstart.plan(pairs, verb="align", **keys)


def test_a_language_model_is_not_trained_by_pairs(pairs: Path, tiny_of: Folder) -> None:
    with pytest.raises(RecipeError, match="objective mlm, as it is set, does not train task pref"):
        warmstart.plan(pairs, base=str(tiny_of("llama")), task="preference", objective="mlm")


def test_tune_says_which_verb_takes_preferences(pairs: Path) -> None:
    with pytest.raises(warmstart.DataError, match="`warmstart align .*--objective dpo` learns"):
        warmstart.plan(pairs)


def test_a_run_is_asked_as_it_was_taught(tmp_path: Path) -> None:
    """The separator of a base that is a run is taken over, unless another is typed."""
    (tmp_path / "run" / "model").mkdir(parents=True)
    note = {"task": {"name": "text2text", "separator": "=", "max_new_tokens": 8}}
    (tmp_path / "run" / "model" / "warmstart.json").write_text(json.dumps(note))

    def separator(objective: str, **keys: Any) -> Any:
        own = {"base": str(tmp_path / "run"), "objective": objective, **keys}
        return getattr(alignment("data", None, own, None).resolved().task, "separator", None)

    assert separator("grpo") == "=" and separator("ppo", **{"task.separator": ":"}) == ":"
    assert separator("dpo") is None
    assert taught("smollm2") == {} == taught(None)
