"""A step that is out of line is not made, and after several the run goes back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import fit
from warmstart.errors import RunError
from warmstart.training import loop
from warmstart.training.guard import LEAST, PATIENCE, Guard


def usual(guard: Guard, steps: int = LEAST) -> None:
    for step in range(steps):
        assert guard.fault(2.0 + 0.05 * math.sin(step), 1.0) == ""


@pytest.mark.parametrize(
    ("loss", "norm", "fault"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (2.0, math.inf, "the gradient's norm is inf"),
        (2.9, 1.0, "the loss is 2.900, and was"),
        (2.0, 21.0, "the gradient's norm is 21, and was 1 before"),
        (2.1, 5.0, ""),
        (0.5, 0.1, ""),
    ],
)
def test_what_is_out_of_line(loss: float, norm: float, fault: str) -> None:
    guard = Guard()
    usual(guard)
    found = guard.fault(loss, norm)
    assert found.startswith(fault) and bool(found) == bool(fault)


def test_nothing_is_unusual_at_first_but_what_is_no_number() -> None:
    guard = Guard()
    assert guard.fault(9.0, 1.0) == guard.fault(1.0, 500.0) == ""
    assert guard.fault(math.nan, 1.0)


def test_a_step_that_is_left_out_does_not_become_usual() -> None:
    guard = Guard()
    usual(guard)
    for step in range(PATIENCE):
        assert guard.fault(50.0, 1.0)
        assert guard.in_a_row == step + 1
    assert guard.fault(2.0, 1.0) == "" and guard.in_a_row == 0


def test_it_remembers_over_a_checkpoint() -> None:
    guard, other = Guard(), Guard()
    usual(guard)
    guard.fault(50.0, 1.0)
    other.load_state(guard.state())
    assert other.state() == guard.state()
    assert other.fault(2.9, 1.0) == guard.fault(2.9, 1.0) != ""


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers of steps, from 1, whose loss is no number."""
    steps, count, real = set[int](), [0], loop.compute_gradients

    def compute(*words: Any, **more: Any) -> Any:
        loss, weight, metrics = real(*words, **more)
        count[0] += 1
        return (loss * math.nan if count[0] in steps else loss), weight, metrics

    monkeypatch.setattr(loop, "compute_gradients", compute)
    return steps


def logged(folder: Path, key: str) -> list[Any]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["step"], line[key]) for line in lines if key in line]


def test_a_run_leaves_steps_out_and_goes_on(
    tiny_of: Callable[[str], Path], tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {5, 6}
    run = fit(tiny_of("bert"), tmp_path / "run", max_steps=10, guard=True, patience=0)
    progress = run.run()
    assert progress.step == 10 and progress.skipped == 2
    assert logged(tmp_path / "run", "skipped") == [(5, "the loss is nan"), (6, "the loss is nan")]
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert math.isfinite(progress.history[-1]["train_loss"])


def test_a_run_goes_back_to_its_checkpoint(
    tiny_of: Callable[[str], Path], tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {*range(5, 5 + PATIENCE)}
    folder = tmp_path / "run"
    how: dict[str, Any] = {"max_steps": 14, "guard": True, "patience": 0}
    run = fit(tiny_of("bert"), folder, checkpoint_seconds=0, **how)
    run.run()
    assert logged(folder, "rolled_back_to") == [(4 + PATIENCE, 4)]
    other = fit(tiny_of("bert"), tmp_path / "other", checkpoint_seconds=1e9, **how)
    poisoned |= {*range(14 + 5, 14 + 5 + PATIENCE)}
    with pytest.raises(RunError, match="no checkpoint to go back to"):
        other.run()


def test_there_is_a_checkpoint_from_the_first_step_on_that_can_be_unusual(
    tiny_of: Callable[[str], Path], tmp_path: Path, poisoned: set[int]
) -> None:
    """However seldom they are written: XLNet's loss leapt after 130 steps of a quarter second."""
    first = LEAST + 3
    poisoned |= {*range(first, first + PATIENCE)}
    how: dict[str, Any] = {"guard": True, "patience": 0, "checkpoint_seconds": 1e9}
    run = fit(tiny_of("bert"), tmp_path / "run", max_steps=first + PATIENCE + 2, **how)
    assert run.run().skipped == PATIENCE
    assert logged(tmp_path / "run", "rolled_back_to") == [(first + PATIENCE - 1, LEAST)]


def test_a_checkpoint_that_is_no_better_ends_the_run(
    tiny_of: Callable[[str], Path], tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {*range(LEAST + 1, LEAST + 60)}
    how: dict[str, Any] = {"guard": True, "patience": 0, "checkpoint_seconds": 1e9}
    run = fit(tiny_of("bert"), tmp_path / "run", max_steps=LEAST + 50, **how)
    with pytest.raises(RunError, match="the weights of the last checkpoint do no better; lower"):
        run.run()
    assert len(logged(tmp_path / "run", "skipped")) == 2 * PATIENCE


def test_without_the_guard_a_run_stops(
    tiny_of: Callable[[str], Path], tmp_path: Path, poisoned: set[int]
) -> None:
    poisoned |= {3}
    with pytest.raises(RunError, match="the loss became nan at step 3"):
        fit(tiny_of("bert"), tmp_path / "run", max_steps=10).run()
