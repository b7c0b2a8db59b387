"""What the machine does to a command: no memory, no room, signals, other locales, odd names."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import warmstart
from learning import write_messages
from preloaded import ENVIRONMENT
from tiny import tiny
from warmstart.cli import verbs
from warmstart.cli.chat import Talk
from warmstart.cli.main import main
from warmstart.cli.output.tables import notes
from warmstart.cli.progress import Bars, Stages
from warmstart.errors import RenamedKeyWarning, RunError
from warmstart.pipelines.session import Session
from warmstart.training.progress import Interrupted
from warmstart.types import Listener

STEERING = "a\x1b]0;title\x07\x1b[2Jb\x9b5n"
QUICK: dict[str, Any] = {"base": "base", "train.max_steps": 2, "evaluate.baselines": False,
                         "evaluate.bootstrap": 100, "train.precision": "fp32"}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    tiny("bert", folder / "base")
    write_messages(folder / "m.csv", 60)
    return folder


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and data, in the current folder."""
    shutil.copytree(made, tmp_path / "room")
    monkeypatch.chdir(tmp_path / "room")
    return tmp_path / "room"


def test_what_is_told_beside_the_answers_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    notes([STEERING])
    Bars().note(STEERING)
    Bars().begin_run(STEERING, 1, 2)
    Stages()(STEERING, 0, 1)
    Talk._note(Talk.__new__(Talk), STEERING)
    error = capsys.readouterr().err
    assert error.count("\n") == 5 and error.count("\\u001b[2Jb\\u009b5n") == 5
    assert not {"\x1b", "\x07", "\x9b"} & {*error}


def test_nor_can_a_key_of_a_recipe(room: Path, capsys: pytest.CaptureFixture[str],
                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def warn(request: Any) -> None:
        warnings.warn(RenamedKeyWarning(STEERING, "new"), stacklevel=2)

    monkeypatch.setattr(verbs, "models", warn)
    assert main(["models"]) == 0
    error = capsys.readouterr().err
    assert "\\u001b" in error and "\x1b" not in error


def test_what_is_to_be_typed_next_is_one_word_a_name(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file of somebody else's may be called."""
    name = "--fix x;touch was_run;$(id).csv"
    rows = (room / "m.csv").read_text().splitlines(keepends=True)
    (room / name).write_text("".join([*rows, *rows[1:9]]))  # copies: there is something to fix
    words = ["inspect", f"./{name}", "--base", "base", "--features", "false", "--out", "look"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    commands = [shlex.split(line) for line in shown.splitlines() if "warmstart " in line]
    assert len(commands) >= 2
    clean = "./--fix x;touch was_run;$(id)-clean.csv"
    assert [f"./{name}", "--fix", clean] in [words[2:] for words in commands]
    assert "touch was_run" not in {word for words in commands for word in words}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "TMPDIR"),
        (MemoryError(), "not enough memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 12"), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_one_line(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(request: Any) -> None:
        raise error

    monkeypatch.setattr(verbs, "models", fails)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    assert main(["models"]) == 2
    line = capsys.readouterr().err
    assert says in line and line.count("\n") == 1


def test_a_process_of_little_memory(room: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))

    words = [sys.executable, "-m", "warmstart", "predict", "base", "a text"]
    done = subprocess.run(words, preexec_fn=limit, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("warmstart: there is not enough memory")
    assert done.stderr.count("\n") == 1


def test_a_signal_after_the_steps_ends_in_order(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, before = Session.save, signal.getsignal(signal.SIGTERM)

    def struck(session: Session, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(session, folder)

    monkeypatch.setattr(Session, "save", struck)
    with pytest.raises(Interrupted, match="--resume out"):
        warmstart.tune("m.csv", out="out", **QUICK)
    assert signal.getsignal(signal.SIGTERM) == before
    stopped = warmstart.Run("out")
    assert stopped.status == "stopped"
    assert not [path for path in stopped.path.iterdir() if path.name.startswith(".model")]
    monkeypatch.setattr(Session, "save", save)
    done = warmstart.tune(resume="out")
    assert done.status == "done" and "reason" not in done.facts


def test_a_folder_that_is_removed_ends_the_run(room: Path) -> None:
    class Remover(Listener):
        def step(self, step: Any, total: int) -> None:
            shutil.rmtree("out", ignore_errors=True)

    keys = {**QUICK, "train.max_steps": 50}
    with pytest.raises(RunError, match="out was removed while the run worked in it"):
        warmstart.tune("m.csv", out="out", listeners=[Remover()], **keys)
    assert not Path("out").exists()


def test_a_full_disk_leaves_no_empty_scores(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    warmstart.tune("m.csv", out="out", **QUICK)

    def full(table: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(RunError, match="No space left"):
        warmstart.evaluate("out", "m.csv", out="scores")
    assert not Path("scores").exists()


def test_a_locale_without_utf8_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0: the bytes of a word come as surrogates."""
    word = "ein schöner Film".encode().decode("ascii", "surrogateescape")
    assert main(["predict", "run", word]) == 2
    assert "locale" in (error := capsys.readouterr().err) and "PYTHONUTF8=1" in error
    assert main(["predict", "run", b"f\xfcr".decode("ascii", "surrogateescape")]) == 2
    assert "bytes that are not UTF-8" in capsys.readouterr().err
