"""Best weights, early stopping, what is told, and how a run ends."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learning import fit, supervised, weights_of
from warmstart.errors import RunError
from warmstart.metrics.base import score_error
from warmstart.objectives.supervised import Supervised
from warmstart.training import checkpoint
from warmstart.training.progress import Interrupted
from warmstart.types import Listener

Folder = Callable[[str], Path]


class Watch(Listener):
    """Keeps the weights after every epoch, and counts."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.rows: list[dict[str, Any]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.run: Any = None
        self.stop_after = 0

    def step(self, step: Any, total: int) -> None:
        self.steps.append(step.index)
        assert total == self.run.total
        if step.index == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.weights.append(weights_of(self.run.model))


def rigged(scores: list[float]) -> Callable[[np.ndarray], dict[str, float]]:
    coming = iter(scores)
    return lambda logits: {"f1_macro": next(coming)}


def watched(folder: Path, out: Path, scores: list[float], **settings: Any) -> tuple[Any, Watch]:
    watch = Watch()
    settings = {"keep": "best", **settings}
    run = fit(folder, out, score=rigged(scores), listeners=[watch], rows=16, **settings)
    watch.run = run
    return run, watch


@pytest.mark.parametrize(
    ("keep", "scores", "kept"),
    [
        ("best", [0.1, 0.6, 0.59, 0.2], 2),
        ("last", [0.1, 0.6, 0.59, 0.2], 4),
        ("one_se", [0.1, 0.6, 0.59, 0.2], 3),  # sqrt(0.6 * 0.4 / n) is more than 0.01
        ("one_se", [0.1, 0.6, 0.1, 0.2], 2),
        ("one_se", [0.6, 0.58, 0.99, 0.4], 3),
    ],
)
def test_keeps_the_epoch_that_was_asked_for(
    keep: str, scores: list[float], kept: int, tiny_of: Folder, tmp_path: Path
) -> None:
    run, watch = watched(tiny_of("bert"), tmp_path, scores, epochs=4, patience=0, keep=keep)
    progress = run.run()
    assert progress.kept_epoch == kept
    assert [row["epoch"] for row in progress.history if row["kept"]] == [kept]
    assert (progress.history[-1]["kept_by"], progress.history[-1]["epochs"]) == (keep, 4)
    assert progress.best_score == max(scores)
    final = weights_of(run.model)
    assert all(torch.equal(final[name], w) for name, w in watch.weights[kept - 1].items())


@pytest.mark.parametrize(
    ("span", "scores", "kept"),
    [
        ((0.0, 100.0), [10.0, 60.0, 59.0, 20.0], 3),  # BLEU had no slack at all
        ((-1.0, 1.0), [-0.6, -0.2, -0.21, -0.9], 3),  # nor had an R² below 0
        ((0.0, 100.0), [10.0, 60.0, 10.0, 20.0], 2),
    ],
)
def test_the_slack_has_the_scale_of_the_score(
    span: tuple[float, float], scores: list[float], kept: int, tiny_of: Folder, tmp_path: Path
) -> None:
    out = tmp_path
    run, _ = watched(tiny_of("bert"), out, scores, epochs=4, patience=0, keep="one_se")
    run.span = span
    assert run.run().kept_epoch == kept


def test_the_slack_is_that_of_the_rows_that_were_judged() -> None:
    assert score_error(0.36, 50) == pytest.approx(0.068, abs=0.001)
    assert score_error(36, 50, (0, 100)) == pytest.approx(6.8, abs=0.1)
    assert score_error(-3.0, 50, (-1, 1)) == 0.0


@pytest.mark.parametrize(
    ("scores", "patience", "ends", "best"),
    [
        ([0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 2, 4, 2),
        ([0.1, 0.5, 0.4, 0.3, 0.9, 0.9], 3, 6, 5),  # an equal score later is no better one
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], None, 6, 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], 1, 2, 1),
        ([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 1, 6, 6),
    ],
)
def test_stops_in_time_and_keeps_the_best(
    scores: list[float], patience: int | None, ends: int, best: int, tiny_of: Folder, tmp_path: Path
) -> None:
    run, watch = watched(tiny_of("bert"), tmp_path, scores, epochs=6, patience=patience)
    progress = run.run()
    assert progress.epoch == ends == len(watch.rows)
    assert (progress.best_epoch, progress.best_step) == (best, 2 * best)
    assert progress.best_score == scores[best - 1]
    assert watch.steps == list(range(1, 2 * ends + 1))
    assert progress.rows == 16 * ends
    final = weights_of(run.model)
    assert all(torch.equal(final[name], w) for name, w in watch.weights[best - 1].items())
    if best < ends:
        last = watch.weights[-1]
        assert not all(torch.equal(final[name], last[name]) for name in final)
    state = json.loads((tmp_path / "trainer_state.json").read_text())
    assert state["best_metric"] == scores[best - 1]
    assert state["best_global_step"] == 2 * best
    assert state["global_step"] == 2 * ends and state["max_steps"] == 12


def test_patience_survives_a_resume(tiny_of: Folder, tmp_path: Path) -> None:
    """Stopped after epoch 2 of the sequence; the best of epoch 1 is still the best."""
    scores = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    whole, seen = watched(tiny_of("bert"), tmp_path / "a", scores, epochs=6, patience=3)
    whole.run()
    half, watch = watched(tiny_of("bert"), tmp_path / "b", scores, epochs=6, patience=3)
    watch.stop_after = 4
    with pytest.raises(Interrupted, match="stopped after step 4 of 12"):
        half.run()
    again, watch = watched(tiny_of("bert"), tmp_path / "b", scores[2:], epochs=6, patience=3)
    progress = again.run(resume=True)
    assert (progress.epoch, progress.best_epoch, progress.best_score) == (4, 1, 0.5)
    assert watch.steps == [5, 6, 7, 8]
    assert [row["epoch"] for row in progress.history] == [1, 2, 3, 4]
    for name, weights in weights_of(again.model).items():
        assert torch.equal(weights, seen.weights[0][name])


def test_a_resume_goes_the_same_way(tiny_of: Folder, tmp_path: Path) -> None:
    """Weights, the optimizer's memory and dropout, in the middle of an epoch."""
    scores = [0.1, 0.2, 0.3, 0.4]
    more: dict[str, Any] = {"epochs": 4, "dropout": 0.1, "batch_size": 4}
    whole, _ = watched(tiny_of("bert"), tmp_path / "a", scores, **more)
    whole.run()
    half, watch = watched(tiny_of("bert"), tmp_path / "b", scores, **more)
    watch.stop_after = 7
    with pytest.raises(Interrupted):
        half.run()
    again, _ = watched(tiny_of("bert"), tmp_path / "b", scores[1:], **more)
    again.run(resume=True)
    expected = weights_of(whole.model)
    assert all(torch.equal(w, expected[name]) for name, w in weights_of(again.model).items())


def test_the_log_and_the_history(tiny_of: Folder, tmp_path: Path) -> None:
    run = fit(tiny_of("bert"), tmp_path, rows=20, batch_size=8, epochs=2)
    progress = run.run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in steps] == [1, 1, 1, 2, 2, 2]
    assert all(line["rows_per_second"] > 0 and line["grad_norm"] > 0 for line in steps)
    judged = [line for line in lines if "eval_f1_macro" in line]
    assert [line["step"] for line in judged] == [3, 6]
    sizes = [len(rows) for rows in run.train.plan(0)]
    first = sum(line["loss"] * n for line, n in zip(steps[:3], sizes, strict=True)) / 20
    assert progress.history[0]["train_loss"] == pytest.approx(first, abs=1e-5)
    assert json.loads((tmp_path / "trainer_state.json").read_text())["log_history"] == lines


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_loss_that_is_no_number(bad: str, tiny_of: Folder, tmp_path: Path) -> None:
    run = fit(tiny_of("bert"), tmp_path, rows=16)

    class Broken(Supervised):
        def total(self, outputs: Any, targets: torch.Tensor) -> torch.Tensor:
            return super().total(outputs, targets) * float(bad)

    run.objective = Broken()
    with pytest.raises(RunError, match=rf"the loss became {bad} at step 1; lower"):
        run.run()


def test_a_full_disk_stops_the_run(
    tiny_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "save_file", full)
    run = fit(tiny_of("bert"), tmp_path, rows=16, checkpoint_seconds=0)
    with pytest.raises(RunError, match="No space left"):
        run.run()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_checkpoint_of_another_run(tiny_of: Folder, tmp_path: Path) -> None:
    fit(tiny_of("bert"), tmp_path, rows=16, checkpoint_seconds=0).run()
    other = fit(tiny_of("bert"), tmp_path, rows=16, checkpoint_seconds=0, epochs=5)
    with pytest.raises(RunError, match="of another run"):
        other.run(resume=True)
    same = fit(tiny_of("bert"), tmp_path, rows=16, checkpoint_seconds=0)
    same._trained["a.weight.more"] = next(iter(same._trained.values()))  # of another method
    with pytest.raises(RunError, match="of another run"):
        same.run(resume=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interruption_and_handlers_come_back(
    number: int, tiny_of: Folder, tmp_path: Path
) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests run under nohup
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    class Stop(Listener):
        def step(self, step: Any, total: int) -> None:
            os.kill(os.getpid(), number)

    run = fit(tiny_of("bert"), tmp_path, rows=16, listeners=[Stop()])
    with pytest.raises(Interrupted):
        run.run()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    signal.signal(signal.SIGHUP, ignored)
    assert checkpoint.newest(tmp_path / "checkpoints") is not None


def test_under_nohup_a_run_outlives_its_terminal(tiny_of: Folder, tmp_path: Path) -> None:
    class HangUp(Listener):
        def step(self, step: Any, total: int) -> None:
            os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert fit(tiny_of("bert"), tmp_path, rows=16, listeners=[HangUp()]).run().step > 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_stops_at_once(tiny_of: Folder, tmp_path: Path) -> None:
    class Twice(Listener):
        def step(self, step: Any, total: int) -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    run = fit(tiny_of("bert"), tmp_path, rows=16, listeners=[Twice()])
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"label_smoothing": 0.2},
        {"loss_function": "focal"},
        {"weights": torch.tensor([0.3, 1.0, 4.0])},
        {"weights": torch.tensor([0.3, 1.0, 4.0]), "loss_function": "focal"},
    ],
)
def test_both_curves_are_of_one_loss(how: dict[str, Any], tiny_of: Folder, tmp_path: Path) -> None:
    """Of weights that stand still the loss on the same rows is the same, whatever it is."""
    run = fit(
        tiny_of("bert"), tmp_path, objective=supervised(**how), learning_rate=1e-12,
        epochs=2, batch_size=64,
    )  # fmt: skip
    row = run.run().history[-1]
    assert row["validation_loss"] == pytest.approx(row["train_loss"], rel=1e-5)
