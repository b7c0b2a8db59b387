"""Killed at any moment and begun again, a run ends with the same bytes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import warmstart
from learning import write_messages
from warmstart.errors import RunError
from warmstart.run import Run
from warmstart.training.regularization.text import SHIPPED

Folder = Callable[[str], Path]
Job = Callable[..., int]
KEYS: dict[str, Any] = {
    "train.epochs": 2,
    "train.batch_size": 8,
    "train.checkpoint_seconds": 0,
    "train.learning_rate": 1e-3,
    "evaluate.baselines": False,
    "evaluate.bootstrap": 100,
}
WAYS: dict[str, dict[str, Any]] = {
    "full-fp32": {"method": "full", "train.precision": "fp32"},
    "full-bf16": {"method": "full", "train.precision": "bf16"},
    "full-muon": {"method": "full", "train.precision": "fp32", "train.optimizer": "muon"},
    "full-micro": {"method": "full", "train.precision": "bf16", "train.micro_batch_tokens": 40,
                   "objective.class_weights": "balanced", "data.sampling": "under"},
    "max-steps": {"method": "full", "train.precision": "fp32", "train.max_steps": 11},
    "tokens": {"method": "full", "train.precision": "fp32", "train.tokens": 1500,
               "train.batch_tokens": 120},
    "frozen": {"method": "frozen", "train.precision": "bf16"},
    "lora": {"method": "lora", "method.dropout": 0.2, "train.precision": "bf16"},
    "gpt2": {"method": "full", "train.precision": "bf16"},
    "kept": {"method": "full", "train.precision": "bf16", "forgetting.text": str(SHIPPED),
             "forgetting.rehearsal": 0.3, "forgetting.penalty": "ewc", "forgetting.strength": 1.0},
    "gpt2-kept": {"method": "full", "train.precision": "fp32",
                  "forgetting.text": str(SHIPPED),
                  "forgetting.rehearsal": 0.3, "forgetting.penalty": "ewc",
                  "forgetting.strength": 1.0},
}  # fmt: skip
LAST = 14  # steps of a whole run
DEATHS: dict[str, list[dict[str, int]]] = {
    "full-fp32": [{"step": 1}, {"save": 5}, {"step": LAST}, {"model": 1}],
    "full-bf16": [{"save": 1}, {"step": 5}, {"save": 3}, {"step": 9}],
    "full-muon": [{"step": 7}],
    "full-micro": [{"step": 7}],
    "max-steps": [{"step": 2}, {"save": 5}, {"step": 10}],
    "tokens": [{"step": 3}, {"step": 12}],
    "frozen": [{"step": 3}, {"save": 2}],
    "lora": [{"step": 6}, {"save": 4}],
    "gpt2": [{"step": 11}],
    "kept": [{"step": 6}],
    "gpt2-kept": [{"save": 7}],
}


def weights(run: Path) -> bytes:
    (found,) = (run / "model").glob("*.safetensors")
    return found.read_bytes()


def steps_of(run: Path) -> list[int]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def whole(tiny_of: Folder, data: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `full` that nothing happened to."""
    keys = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}
    out = tmp_path_factory.mktemp("whole") / "run"
    assert job(data=data, out=out, keys=keys) == 0
    return out


RARER = ("full-bf16", "full-micro", "max-steps", "full-muon", "kept", "gpt2-kept")


@pytest.mark.parametrize(
    "way", [pytest.param(w, marks=[pytest.mark.slow] if w in RARER else []) for w in WAYS]
)
def test_killed_and_begun_again(
    way: str, tiny_of: Folder, data: Path, job: Job, tmp_path: Path
) -> None:
    """kill -9 after a step, inside a checkpoint, after the last step, while the model is saved:
    one run dies at each of these moments in turn."""
    base = str(tiny_of("gpt2" if way.startswith("gpt2") else "bert"))
    keys = {**KEYS, "base": base, **WAYS[way]}
    if {"train.max_steps", "train.tokens"} & set(keys):
        del keys["train.epochs"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert job(data=data, out=whole, keys=keys) == 0
    for number, moment in enumerate(DEATHS[way]):
        status = job(data=data, out=broken, keys=keys, die=moment, resume=number > 0)
        assert status == -signal.SIGKILL, moment
        assert not (broken / "model").exists()
        assert Run(broken).status == "running"
    assert job(out=broken, resume=True) == 0
    assert Run(broken).status == "done"
    assert weights(broken) == weights(whole)
    assert steps_of(broken) == steps_of(whole)
    if way == "full-fp32":
        assert steps_of(whole)[-1] == LAST
    for name in ("proof.json", "trainer_state.json"):
        assert (broken / name).exists()
    ours, theirs = Run(broken).metrics, Run(whole).metrics
    for name in ("f1_macro", "accuracy", "forgetting"):
        assert ours[name] == theirs[name]
    assert not (broken / "checkpoints").exists()
    junk = [path.name for path in broken.iterdir() if path.name not in names(whole)]
    assert junk == []


def names(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def test_killed_in_a_checkpoint_the_one_before_is_used(
    tiny_of: Folder, data: Path, job: Job, tmp_path: Path
) -> None:
    """It is not begun from nothing."""
    keys = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}
    out = tmp_path / "run"
    assert job(data=data, out=out, keys=keys, die={"save": 9}) == -signal.SIGKILL
    left = {path.name for path in (out / "checkpoints").iterdir()}
    assert left == {".step-00000009", "step-00000007", "step-00000008"}
    before = steps_of(out)
    assert before[-1] == 9
    # what the next one does first is step 9
    assert job(out=out, resume=True, die={"step": 9}) == -signal.SIGKILL
    assert steps_of(out) == before


def test_the_disk_spoils_the_newest(
    tiny_of: Folder, data: Path, job: Job, whole: Path, tmp_path: Path
) -> None:
    keys, broken = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}, tmp_path / "broken"
    assert job(data=data, out=broken, keys=keys, die={"step": 12}) == -signal.SIGKILL
    tensors = broken / "checkpoints" / "step-00000011" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    assert job(out=broken, resume=True) == 0
    assert weights(broken) == weights(whole)
    (note,) = notes_of(broken)
    assert "cannot be read (step-00000011); it goes on from the one before, step-00000010" in note


def notes_of(run: Path) -> list[str]:
    """What the ledger tells of checkpoints."""
    return [one["message"] for one in Run(run).ledger["notes"] if one["kind"] == "checkpoint"]


def test_the_disk_spoils_them_all(
    tiny_of: Folder, data: Path, job: Job, whole: Path, tmp_path: Path, preloaded: dict[str, str]
) -> None:
    """It begins again and says so, in the ledger and on the terminal; killed once more, what it
    has done since then counts."""
    keys, broken = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}, tmp_path / "broken"
    assert job(data=data, out=broken, keys=keys, die={"step": 6}) == -signal.SIGKILL
    for tensors in broken.glob("checkpoints/*/tensors.safetensors"):
        tensors.write_bytes(tensors.read_bytes()[:-100])
    assert job(out=broken, resume=True, die={"step": 3}) == -signal.SIGKILL
    left = {path.name for path in (broken / "checkpoints").iterdir()}
    assert left == {"step-00000001", "step-00000002"}
    names = ("step-00000002", "step-00000001")
    for name in names:
        (broken / "checkpoints" / name / "manifest.json").unlink()
    command = ["warmstart", "tune", "--resume", str(broken)]
    strict = {**preloaded, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, env=strict, text=True, capture_output=True)
    said = f"no checkpoint of {broken} can be read ({' and '.join(names)}); it begins again at step"
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"note: {said} 1\n")
    assert notes_of(broken) == [f"{said} 1"]
    assert weights(broken) == weights(whole)


def test_interrupted_in_the_middle(
    tiny_of: Folder, data: Path, job: Job, whole: Path, tmp_path: Path
) -> None:
    """One Ctrl-C ends the run after the step, with a checkpoint, however rare they are."""
    keys, broken = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}, tmp_path / "broken"
    rare = {**keys, "train.checkpoint_seconds": 10_000}
    for number, step in enumerate((4, 8, 13)):
        status = job(data=data, out=broken, keys=rare, die={"interrupt": step}, resume=number > 0)
        assert status == 130
        assert Run(broken).status == "stopped"
        assert "stopped after step" in Run(broken).facts["reason"]
        assert steps_of(broken)[-1] == step
    assert job(out=broken, resume=True) == 0
    assert weights(broken) == weights(whole)


def test_ctrl_c_on_the_command_line(
    tiny_of: Folder, data: Path, tmp_path: Path, preloaded: dict[str, str]
) -> None:
    """Status 130, one line that says how to go on, and that line works."""
    out = tmp_path / "run"
    words = [str(data), "--base", str(tiny_of("bert")), "--out", str(out)]
    words += ["--train.epochs", "4000", "--train.patience", "4000", "--train.batch-size", "8"]
    words += ["--evaluate.baselines", "false"]
    process = subprocess.Popen(
        ["warmstart", "tune", *words], env={**preloaded, "PYTHONWARNINGS": "error"}, text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    log = out / "log.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and not (log.exists() and log.read_text().count("\n") > 5):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("warmstart: stopped after step")
    assert f"warmstart tune --resume {out}" in last
    assert "Traceback" not in said
    assert Run(out).status == "stopped"
    assert list((out / "checkpoints").glob("step-*"))


def test_a_finished_run_is_left_as_it_is(job: Job, whole: Path) -> None:
    """Nothing is trained again."""
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    assert job(out=whole, resume=True) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_other_data(tiny_of: Folder, job: Job, tmp_path: Path) -> None:
    """A run is not gone on with over data that have changed."""
    data = write_messages(tmp_path / "messages.csv", 80)
    keys = {**KEYS, "base": str(tiny_of("bert")), "method": "full"}
    out = tmp_path / "run"
    assert job(data=data, out=out, keys=keys, die={"step": 3}) == -signal.SIGKILL
    write_messages(data, 80, seed=1)
    with pytest.raises(RunError, match="the data have changed"):
        warmstart.tune(resume=out)


@pytest.fixture(scope="module")
def begun(tiny_of: Folder, data: Path, job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that died after step 3."""
    out = tmp_path_factory.mktemp("begun") / "run"
    keys = {**KEYS, "base": str(tiny_of("bert")), "method": "lora"}
    assert job(data=data, out=out, keys=keys, die={"step": 3}) == -signal.SIGKILL
    return out


def edited(begun: Path, out: Path, was: str, now: str) -> Path:
    """A copy of the run with a line of its recipe changed."""
    shutil.copytree(begun, out)
    recipe = (out / "recipe.toml").read_text()
    assert was in recipe
    (out / "recipe.toml").write_text(recipe.replace(was, now))
    return out


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ("learning_rate = 0.001", "learning_rate = 0.01",
         "train.learning_rate was 0.001 when it began and is 0.01 now"),
        ("learning_rate = 0.001\n", "", "train.learning_rate was 0.001 .* and is unset now"),
        ("\nrank = 16", "\nrank = 8", "method.rank was 16 when it began and is 8 now"),
        ("[data]", "[data]\ngroup = 'text'", "data.group was unset when it began and is text now"),
    ],
)  # fmt: skip
def test_another_recipe(begun: Path, tmp_path: Path, was: str, now: str, says: str) -> None:
    """A run is not gone on with by a recipe that was edited; a dry run says so too."""
    out = edited(begun, tmp_path / "run", was, now)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for go_on in (warmstart.tune, warmstart.plan):
        with pytest.raises(RunError, match=f"^cannot resume {out}: {says}; put it back in {out}"):
            go_on(resume=out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_what_does_not_touch_the_training_may_be_edited(begun: Path, tmp_path: Path) -> None:
    out = edited(begun, tmp_path / "run", "bootstrap = 100", "bootstrap = 200")
    edited(out, tmp_path / "moved", "checkpoint_seconds = 0", "checkpoint_seconds = 30")
    assert warmstart.plan(resume=tmp_path / "moved")["recipe"].evaluate.bootstrap == 200


def test_a_run_of_an_older_version_has_no_record(begun: Path, tmp_path: Path) -> None:
    out = edited(begun, tmp_path / "run", "learning_rate = 0.001", "learning_rate = 0.01")
    facts = json.loads((out / "run.json").read_text())
    assert "learning_rate = 0.001" in facts.pop("recipe")
    (out / "run.json").write_text(json.dumps(facts))
    assert warmstart.plan(resume=out)["recipe"].train.learning_rate == 0.01
