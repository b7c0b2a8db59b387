"""The log after a crash."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from warmstart.training.loop import Step
from warmstart.training.progress import Log


def step(index: int, ends: bool = False) -> Step:
    one = torch.tensor(1.0)
    return Step(index, 1, one, one, 1e-3, 4, 20, 0.1, ends)


def test_lines_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    log = Log(tmp_path, 10, 0)
    for index in range(1, 6):
        log.step(step(index))
    log.file.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # cut off by a crash
    again = Log(tmp_path, 10, 3)
    again.step(step(4))
    again.close(epochs=1, best_step=None, best_score=None)
    assert [line["step"] for line in again.lines()] == [1, 2, 3, 4]


def test_a_fresh_run_forgets_everything(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    log = Log(tmp_path, 10, 0)
    log.close(epochs=1, best_step=None, best_score=None)
    assert log.lines() == []
    assert json.loads((tmp_path / "trainer_state.json").read_text())["global_step"] == 0


def test_about_a_thousand_lines(tmp_path: Path) -> None:
    log = Log(tmp_path, 25_000, 0)
    for index in range(1, 25_001):
        log.step(step(index, ends=index == 12_345))
    log.close(epochs=1, best_step=None, best_score=None)
    found = [line["step"] for line in log.lines()]
    assert 1000 <= len(found) <= 1001 and 12_345 in found
