"""An objective of somebody else's, with a second model and figures of its own, is trained, resumed,
saved, told and answered by; nothing in the library knows of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import warmstart
from learning import fit, grads_of, messages, write_messages
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.part import allow
from warmstart.pipelines.prepare import prepare
from warmstart.pipelines.session import Session
from warmstart.training.loop import compute_gradients

Folder = Callable[[str], Path]
HERE = Path(__file__).parent
OWN = "own_objectives.NearTheBase"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def keys(base: Path, **more: Any) -> dict[str, Any]:
    return {
        "base": str(base), "objective": OWN, "train.epochs": 3, "train.batch_size": 8,
        "train.learning_rate": 3e-3, "train.precision": "fp32", "evaluate.bootstrap": 100,
        "evaluate.baselines": False, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("toy") / "messages.csv", 80)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_from_training_to_an_answer(
    family: str, data: Path, tiny_of: Folder, tmp_path: Path
) -> None:
    run = warmstart.tune(data, out=str(tmp_path / "run"), **keys(tiny_of(family)))
    assert run.status == "done" and run.proof["passed"]
    history = run.facts["history"]
    assert all(row["train_divergence"] >= 0 for row in history)
    assert history[-1]["validation_divergence"] > history[0]["validation_divergence"] > 0
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert 0 <= history[-1]["validation_hits"] <= 1
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all({"divergence", "hits"} <= line.keys() for line in steps)
    assert all("eval_divergence" in line for line in lines if "eval_loss" in line)
    page = run.report.read_text(encoding="utf-8")
    assert "divergence" in page
    assert f'name = "{OWN}"' in (run.path / "recipe.toml").read_text()
    assert len(run.predict(messages(5)[0])) == 5
    assert warmstart.evaluate(run.path, data)["accuracy"]["value"] > 0.3


def test_the_reference_reads_the_same_batches(data: Path, tiny_of: Folder) -> None:
    """Also where the trained model has a vocabulary of its own; and before a step both agree."""
    session = Session.begin(prepare(Recipe.of(keys(tiny_of("bert"), **{"data.path": str(data)}))))
    assert session.forward.used_rows is not None
    source: Any = session.source("train")
    with session.forward.evaluating():
        for batch in source.batches(source.plan(0)[0], torch.zeros(0)):
            ours: Any = session.forward.forward(batch)
            theirs: Any = session.objective._reference.forward(batch)  # pyright: ignore[reportAttributeAccessIssue]
            torch.testing.assert_close(ours, theirs)
            loss = session.objective.loss(session.forward, batch)
            assert float(loss.metrics["divergence"]) == pytest.approx(0.0, abs=1e-4)
    assert session.prepared.objective._reference is None, "the recipe's own part stays as it is"  # pyright: ignore[reportAttributeAccessIssue]


def test_accumulation_is_exact(tiny_of: Folder, tmp_path: Path) -> None:
    """For an objective that the library has never seen, too."""
    from own_objectives import NearTheBase

    gradients: list[dict[str, torch.Tensor]] = []
    values: list[float] = []
    for tokens in (10_000, 40):
        run = fit(tiny_of("bert"), tmp_path, rows=24)
        objective = NearTheBase(beta=2.0)
        objective._reference = fit(tiny_of("bert"), tmp_path, rows=24).forward
        rows = run.train.dataset
        parts = rows.micro(run.train.plan(0)[0], tokens)
        batches = [objective.collate(rows, part, None) for part in parts]  # pyright: ignore[reportArgumentType]
        loss, _, metrics = compute_gradients(objective, run.forward, batches)
        gradients.append(grads_of(run.model))
        values.append(float(loss))
        assert 0 <= float(metrics["hits"]) <= 1
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    for name, whole in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], whole, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_objectives.Missing", r"there is no own_objectives\.Missing"),
        ("nowhere.Objective", r"make it importable \(PYTHONPATH\)"),
        ("own_objectives.NoObjective", "no class that derives from warmstart.s Objective"),
        ("superwised", "supervised"),
    ],
)
def test_what_is_no_objective_is_refused(name: str, said: str) -> None:
    allow(name)
    with pytest.raises(Exception, match=said):
        Recipe.of({"objective": name})


def test_its_settings_are_checked_as_any_others() -> None:
    recipe = Recipe.of({"objective": OWN, "objective.beta": "0.25"})
    assert recipe.objective.beta == 0.25  # pyright: ignore[reportAttributeAccessIssue]
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    with pytest.raises(RecipeError, match=r"objective\.beta"):
        Recipe.of({"objective": OWN, "objective.beta": -1})
    with pytest.raises(RecipeError, match="beto"):
        Recipe.of({"objective": OWN, "objective.beto": 1})
    with pytest.raises(RecipeError, match="does not train task regression"):
        Recipe.of({"objective": OWN, "task": "regression"})


def test_from_the_command_line(
    data: Path, tiny_of: Folder, tmp_path: Path, preloaded: dict[str, str]
) -> None:
    words = ["tune", str(data), "--objective", OWN, "--objective.beta", "0.1", "--dry-run"]
    done = subprocess.run(
        ["warmstart", *words, "--base", str(tiny_of("bert"))],
        env={**preloaded, "PYTHONPATH": f"{preloaded['PYTHONPATH']}:{HERE}"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "beta = 0.1" in done.stdout
