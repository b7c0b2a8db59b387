"""The run folder: made whole, reopened, never written over."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from preloaded import ENVIRONMENT
from warmstart.config.recipe import Recipe
from warmstart.errors import RunError
from warmstart.files import write_json, write_text
from warmstart.run import (
    Run,
    check_free,
    check_writable,
    free_path,
    held,
    read_json,
)

FACTS = {"labels": ["neg", "pos"], "fingerprint": "0"}


def test_a_run_is_made_and_reopened(tmp_path: Path):
    recipe = Recipe.of({"method": "lora", "train.patience": None, "data.path": "d.csv"})
    run = Run.create(tmp_path / "runs" / "x", recipe, FACTS)
    again = Run(str(run.path))
    assert again.recipe == recipe
    assert (again.status, again.labels) == ("running", ["neg", "pos"])
    again.update(status="done", extra=1)
    kept = {"recipe": recipe.to_toml(), "extra": 1}
    assert run.facts == {"status": "done", **FACTS, **kept}
    assert repr(run) == f"Run('{run.path}', done)"
    assert sorted(os.listdir(run.path)) == ["recipe.toml", "run.json"]
    assert run.report == run.path / "report.html"
    assert run.model == run.path / "model"


def test_what_is_not_there_yet_says_how_to_get_it(tmp_path: Path):
    run = Run.create(tmp_path / "x", Recipe(), FACTS)
    for name in ("metrics", "proof", "ledger"):
        with pytest.raises(RunError, match=rf"{name}\.json is missing.*--resume"):
            getattr(run, name)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path):
    (tmp_path / "x").mkdir()
    Run.create(tmp_path / "x", Recipe(), FACTS)
    with pytest.raises(RunError, match=r"not empty; choose another --out, or go on .*--resume"):
        Run.create(tmp_path / "x", Recipe(), FACTS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="another --out$"):
        Run.create(tmp_path / "mine", Recipe(), FACTS)
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]


def test_a_folder_of_any_name_can_be_typed(tmp_path: Path):
    run = Run.create(tmp_path / "my run & co", Recipe(), FACTS)
    for ask in (lambda: run.metrics, lambda: check_free(run.path)):
        with pytest.raises(RunError) as said:
            ask()
        words = shlex.split(str(said.value).partition(": warmstart ")[2])
        assert words == ["tune", "--resume", str(run.path)]


def test_a_run_stands_wherever_its_folder_may(tmp_path: Path):
    run = Run.create(tmp_path / "x", Recipe(), FACTS)
    assert os.fspath(run) == str(run.path)
    assert Run(run).path == run.path


def test_no_run(tmp_path: Path):
    Run.create(tmp_path / "first", Recipe(), FACTS)
    with pytest.raises(RunError, match=r"no run .*frist\. Did you mean 'first'"):
        Run(tmp_path / "frist")
    with pytest.raises(RunError, match="is no run: it has no"):
        Run(tmp_path)


def test_the_next_free_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert free_path("data-full") == Path("runs/data-full")
    Path("runs/data-full").mkdir(parents=True)
    Path("runs/data-full-2").mkdir()
    assert free_path("data-full") == Path("runs/data-full-3")


def test_a_name_too_long_is_cut_between_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = free_path("a" + "ü" * 150)
    assert path == Path("runs") / ("a" + "ü" * 99)
    path.mkdir(parents=True)
    assert free_path("a" + "ü" * 150).name == path.name + "-2"


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "loop"])
def test_a_place_that_cannot_be_is_said(name: str, tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    for check in (check_free, check_writable):
        with pytest.raises(RunError, match="cannot write to .*; choose another --out"):
            check(tmp_path / name)


def test_looking_whether_a_place_can_be_written_leaves_nothing(tmp_path: Path):
    check_writable(tmp_path / "a" / "b" / "c")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is not a folder"):
        check_writable(tmp_path / "file" / "x")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.json"
    write_json(path, {"one": "ü"})
    with pytest.raises(TypeError):
        write_json(path, {"one": object()})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="space"):
        write_text(path, "two")
    assert read_json(path) == {"one": "ü"}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_damaged_file_is_named(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps({"a": 1})[:-2])
    with pytest.raises(RunError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


HOLD = """
import sys, time
from pathlib import Path
from warmstart.run import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_works_in_a_run(tmp_path: Path):
    run = Run.create(tmp_path / "x", Recipe(), FACTS)
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            said = f"process {other.pid} on .* is at work in {run.path}; wait until it ends"
            with pytest.raises(RunError, match=said), held(run.path):
                raise AssertionError("two at once")
        finally:
            other.kill()
    with held(run.path):  # killed, and the lock with it
        assert run.facts["process"]["number"] == os.getpid()
    with held(run.path):
        pass


def test_a_folder_without_locks_is_worked_in_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    run = Run.create(tmp_path / "x", Recipe(), FACTS)
    monkeypatch.setattr("fcntl.flock", no_locks)
    with held(run.path):
        assert run.facts["process"]["number"] == os.getpid()
