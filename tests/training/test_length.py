"""How long a run is, in epochs, steps or tokens; where it stands; and rows without end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import warmstart
from learning import CPU, classifier, fit, messages, ready, source_of, store_of, write_messages
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.models.forward import Batch
from warmstart.objectives.base import Position
from warmstart.objectives.supervised import Supervised
from warmstart.training.batches import BatchSource, Length
from warmstart.training.datasets import Rows, TokenRows
from warmstart.training.settings import Train

Folder = Callable[[str], Path]


def source(folder: Path, **settings: Any) -> BatchSource:
    """20 rows in steps of 8: 3 to an epoch."""
    store, pad = store_of(folder, *messages(20))
    keys = {"epochs": None, **settings}
    return source_of(store, ready(classifier(folder)), pad, **keys)


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"epochs": 2}, Length(6, (0, 3))),
        ({"max_steps": 2}, Length(2, (0,))),
        ({"max_steps": 3}, Length(3, (0,))),
        ({"max_steps": 7}, Length(7, (0, 3, 6))),
    ],
)
def test_epochs_and_steps(settings: dict[str, int], length: Length, tiny_of: Folder) -> None:
    assert source(tiny_of("bert"), **settings).length() == length


@pytest.mark.parametrize("batch_tokens", [None, 60])
@pytest.mark.parametrize("share", [0.01, 0.5, 1.0, 1.7])
def test_tokens(batch_tokens: int | None, share: float, tiny_of: Folder) -> None:
    """The run ends with the step that has computed so many tokens; there is always one."""
    whole = source(tiny_of("bert"), epochs=3, batch_tokens=batch_tokens)
    tokens = int(whole.tokens_in_epoch(0) * share)
    part = source(tiny_of("bert"), tokens=tokens, batch_tokens=batch_tokens)
    sizes = [whole.tokens_of(rows) for epoch in range(3) for rows in whole.plan(epoch)]
    steps = part.length().steps
    assert steps >= 1 and sum(sizes[:steps]) >= tokens > sum(sizes[: steps - 1])


@pytest.mark.parametrize("batch_tokens", [None, 60])
def test_a_position_is_reached_without_planning_what_came_before(
    batch_tokens: int | None, tiny_of: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = source(tiny_of("bert"), max_steps=17, batch_tokens=batch_tokens)
    monkeypatch.setattr(it, "batches", lambda rows, rng: rows)
    every = list(it.steps(Position()))
    assert [step.after.step for step in every] == list(range(1, 18))
    assert [s.ends_epoch for s in every][-1]
    for done in (1, 4, 12, 16):
        position = every[done - 1].after
        planned: list[int] = []
        plan = it.plan

        def spy(epoch: int, planned: list[int] = planned, plan: Any = plan) -> Any:
            planned.append(epoch)
            return plan(epoch)

        monkeypatch.setattr(it, "plan", spy)
        next(it.steps(position))
        assert planned == [position.epoch]
        rest = list(it.steps(position))
        monkeypatch.setattr(it, "plan", plan)
        assert [(s.after, s.ends_epoch) for s in rest] == [
            (s.after, s.ends_epoch) for s in every[done:]
        ]
        for ours, theirs in zip(rest, every[done:], strict=True):
            rng: Any = None
            assert np.array_equal(np.asarray(ours.batches(rng)), np.asarray(theirs.batches(rng)))


def test_validation_follows_each_epoch_and_the_end(tiny_of: Folder, tmp_path: Path) -> None:
    run = fit(tiny_of("bert"), tmp_path, rows=24, max_steps=7)
    progress = run.run()
    assert [(row["step"], row["epoch"]) for row in progress.history] == [(3, 1), (6, 2), (7, 3)]
    assert (progress.step, progress.rows) == (7, 56)
    assert {row["epochs"] for row in progress.history} == {3}
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["max_steps"] == state["global_step"] == 7


def test_the_learning_rate_knows_the_length(tiny_of: Folder, tmp_path: Path) -> None:
    rates: dict[str, list[float]] = {}
    for name, length in {"steps": {"max_steps": 6}, "epochs": {"epochs": 2}}.items():
        fit(tiny_of("bert"), tmp_path / name, rows=24, **length).run()
        lines = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        rates[name] = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert len(rates["steps"]) == 6 and rates["steps"] == rates["epochs"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"train.epochs": 2, "train.max_steps": 9}, "train.epochs and train.max_steps both say"),
        ({"train.tokens": 2, "train.max_steps": 9}, "train.max_steps and train.tokens both say"),
        ({"train.max_steps": 0}, "train.max_steps"),
    ],
)
def test_how_long_is_said_once(keys: dict[str, int], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.of(keys)


@pytest.mark.parametrize("length", [{"train.max_steps": 5}, {"train.tokens": 700}])
@pytest.mark.parametrize("how", [{}, {"method": "frozen"}, {"task": "few_shot"}])
def test_a_dry_run_says_what_a_run_does(
    length: dict[str, int], how: dict[str, str], tiny_of: Folder, tmp_path: Path
) -> None:
    data = write_messages(tmp_path / "data.csv", 60)
    keys: dict[str, Any] = {
        "base": str(tiny_of("bert")),
        "evaluate.bootstrap": 100,
        **length,
        **how,
    }
    keys |= {"train.precision": "fp32", "evaluate.baselines": False}
    planned = warmstart.plan(data, out=str(tmp_path / "run"), **keys)
    run = warmstart.tune(data, out=str(tmp_path / "run"), **keys)
    assert (
        json.loads((run.path / "trainer_state.json").read_text())["global_step"]
        == (planned["steps"])
    )
    assert Recipe.from_toml((run.path / "recipe.toml").read_text()).train.epochs is None  # pyright: ignore[reportAttributeAccessIssue]


class Endless(Rows):
    """Rows that come again and again, as a stream gives them."""

    endless = True

    def __init__(self, rows: TokenRows) -> None:
        super().__init__(np.zeros(0, np.int64), CPU)
        self.inner, self.read = rows, list[int]()

    def micro(self, rows: np.ndarray, max_tokens: int) -> list[np.ndarray]:
        return [rows]

    def collate(self, rows: np.ndarray) -> Batch:
        self.read += rows.tolist()
        return self.inner.collate(rows % len(self.inner))


def test_rows_without_end_are_read_in_their_order(tiny_of: Folder) -> None:
    store, pad = store_of(tiny_of("bert"), *messages(6))
    rows = Endless(TokenRows(store, pad, torch.device("cpu")))
    endless = BatchSource(rows, Supervised(), Train(max_steps=4, batch_size=4))
    steps = list(endless.steps(Position()))
    assert [step.after for step in steps] == [Position(n, 0, n) for n in range(1, 5)]
    assert [step.ends_epoch for step in steps] == [False, False, False, True]
    for step in list(endless.steps(steps[1].after)):
        step.batches(np.random.default_rng(0))
    assert rows.read == list(range(8, 16)), "the position is reached at once"
    with pytest.raises(RecipeError, match=r"give train\.max_steps"):
        BatchSource(rows, Supervised(), Train(epochs=1)).length()
