"""A walk of the verbs and public functions over hostile and damaged folders and files
(`hostile.py`): none is executed, hangs, or takes over 2 GB beside what the process has; each is
refused in one line, or answers as the whole folder does."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import queue
import re
import resource
import shlex
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hostile
import hostile_writers
from hostile import CANARY, CODE, EVIL, Case
from learning import write_messages
from preloaded import ENVIRONMENT
from tiny import tiny

SECONDS, MEMORY = 20, 2 << 30
SAMPLE = 200
"""The default suite shows each so-and-so-manieth case."""
TYPED = "the film\n1\n"
"""What a person types where a command asks."""


def cases(room: Path) -> list[Case]:
    return hostile.in_turn([*hostile.cases(room), *hostile_writers.cases(room)])


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, a whole model, an adapter, both as runs that were stopped, and an index."""
    import warmstart

    folder = tmp_path_factory.mktemp("walk") / "room"
    folder.mkdir()
    tiny("bert", folder / "base")
    write_messages(folder / "m.csv", 60)
    keys: dict[str, Any] = {"base": "base", "train.epochs": 1, "evaluate.bootstrap": 100,
                            "evaluate.baselines": False, "train.precision": "fp32"}  # fmt: skip
    with contextlib.chdir(folder):
        warmstart.tune("m.csv", out="whole", **keys)
        warmstart.tune("m.csv", out="lora", method="lora", **keys)
        pairs = [{"anchor": f"a film {n}", "positive": f"one film {n}"} for n in range(30)]
        Path("p.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        warmstart.tune("p.jsonl", task="embedding", out="vectors", **keys)
        warmstart.retrieval.index("vectors", ["a text", "another one"], out="index")
        for run in ("whole", "lora"):
            facts = json.loads(Path(run, "run.json").read_text())
            Path(run, "run.json").write_text(json.dumps({**facts, "status": "stopped"}))
        Path(f"{CODE}.py").write_text(EVIL)
    hostile_writers.furnish(folder)
    return folder


def asked(command: str) -> dict[str, Any]:
    """What one command does in the current folder, by its words or as Python."""
    import warmstart
    from warmstart.cli.main import main
    from warmstart.errors import WarmstartError

    out, err = io.StringIO(), io.StringIO()
    begun, code, stdin = time.monotonic(), 0, sys.stdin
    sys.stdin = io.StringIO(TYPED)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if command.startswith("py "):
                print(eval(command[3:], {"warmstart": warmstart}))  # noqa: S307 - of hostile.py
            else:
                code = main(shlex.split(command))
        except WarmstartError as error:
            code = 2
            print(f"warmstart: {error}", file=sys.stderr)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
            code = 1
            where = [f"{Path(at.filename).name}:{at.lineno} {at.name}"
                     for at in traceback.extract_tb(error.__traceback__)[-6:]]  # fmt: skip
            line = f"{type(error).__name__}: {str(error)[:300]} ({', '.join(where)})"
            print(line, file=sys.stderr)
        finally:
            sys.stdin = stdin
    return {"code": code, "out": out.getvalue()[-2_000:], "err": err.getvalue()[-4_000:],
            "seconds": time.monotonic() - begun}  # fmt: skip


def work(room: Path) -> None:
    """Answer the numbers of cases that come on stdin, a line for each command (in a process of its
    own; what it prints itself goes nowhere)."""
    answers, sys.stdout = sys.stdout, io.StringIO()
    place, home = room.parent / "place", Path.cwd()
    made = cases(room)
    sys.path.insert(0, str(place))

    def answer(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    for line in sys.stdin:
        case = made[int(line)]
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(room, place)
        with contextlib.chdir(place):
            case.damage()
            there = {path.name for path in place.iterdir()}
            for command in case.verbs:
                facts = asked(command)
                if command == case.like and facts["code"] == 0 and Path("o.jsonl").exists():
                    facts["answer"] = Path("o.jsonl").read_text()
                ran = (place / CANARY).exists() or (home / CANARY).exists() or CODE in sys.modules
                answer(command=command, ran=ran, **facts)
                for path in place.iterdir():
                    if path.name not in there:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        answer(command="")


class Worker:
    """The process in which the cases are tried; a new one after one that hung or fell."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.start()

    def start(self) -> None:
        code = "import sys, pathlib, test_walk; test_walk.begin(pathlib.Path(sys.argv[1]))"
        path = f"{ENVIRONMENT['PYTHONPATH']}:{Path(__file__).parent}"
        self.process: Any = subprocess.Popen(
            [sys.executable, "-c", code, str(self.room)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
            env={**ENVIRONMENT, "PYTHONPATH": path},
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        self.listener = threading.Thread(target=self.listen, args=(self.process, self.lines))
        self.listener.daemon = True
        self.listener.start()
        assert self.line(120) == "ready"

    def line(self, seconds: float) -> str | None:
        """The next line; empty where the process has ended, None where none comes within so many
        seconds of its processor time (a machine may be busy), or long after."""
        begun, spent = time.monotonic(), self.spent()
        while time.monotonic() - begun < 30 * seconds and self.spent() - spent < seconds:
            with contextlib.suppress(queue.Empty):
                return self.lines.get(timeout=0.5)
        return None

    @staticmethod
    def listen(process: Any, lines: queue.Queue[str]) -> None:
        for line in process.stdout:
            lines.put(line.strip())
        lines.put("")

    def spent(self) -> float:
        """The seconds of processor time that the process has taken."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.listener.join()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def tried(self, number: int, case: Case) -> Iterator[dict[str, Any]]:
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        for command in (*case.verbs, ""):
            line = self.line(SECONDS)
            if not line:
                self.end()
                how = "hung" if line is None else f"fell ({self.process.returncode})"
                yield {"command": command, "fault": how}
                self.start()
                return
            facts = json.loads(line)
            if facts["command"]:
                yield facts


def begin(room: Path) -> None:
    """Load what the commands load, then take no more than 2 GB beside it."""
    with contextlib.chdir(room):
        asked("predict whole 'a text'")
        asked("adapters merge lora --out ../merged")
        asked("tune m.csv --base base --dry-run")
        asked("inspect m.csv --base base --out ../look")
    shutil.rmtree(room.parent / "merged", ignore_errors=True)
    shutil.rmtree(room.parent / "look", ignore_errors=True)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))
    print("ready", flush=True)
    work(room)


def fault(facts: dict[str, Any], like: str) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if "fault" in facts:
        return facts["fault"]
    if facts["ran"]:
        return "code of the folder was run"
    if facts["code"] not in (0, 2):
        return f"ended with {facts['code']}: {facts['err'][-600:]}"
    said = [line for line in facts["err"].splitlines() if line.startswith("warmstart: ")]
    if "Traceback" in facts["err"] or "\x1b" in facts["err"]:
        return f"said {facts['err'][-600:]!r}"
    if facts["code"] == 2 and (not said or not facts["err"].rstrip("\n").endswith(said[-1])):
        return f"not one line: {facts['err'][-600:]!r}"
    if facts.get("answer", like) != like:
        return f"another answer: {facts['answer'][:300]}"
    return ""


def walk(room: Path, numbers: Iterator[int] | range) -> tuple[int, list[str]]:
    """How many commands were tried, and the faults."""
    made, faults, count = cases(room), list[str](), 0
    with contextlib.chdir(room):
        facts = asked("predict whole 'a good film' --out ../like.jsonl")
        assert facts["code"] == 0, facts["err"]
        asked("predict lora 'a good film' --out ../like-lora.jsonl")
    likes = {run: (room.parent / name).read_text()
             for run, name in (("whole", "like.jsonl"), ("lora", "like-lora.jsonl"))}  # fmt: skip
    worker = Worker(room)
    for number in numbers:
        case = made[number]
        for facts in worker.tried(number, case):
            count += 1
            like = likes.get(case.like.split()[1] if case.like else "", "")
            if wrong := fault(facts, like):
                faults.append(f"{number} {case.name} | {facts['command']} | {wrong}")
    worker.end()
    return count, faults


def test_there_are_enough_cases(room: Path) -> None:
    made = cases(room)
    names = [case.name for case in made]
    assert [name for name in names if names.count(name) > 1] == []
    assert len(names) >= 300


def test_every_verb_and_function_is_walked(room: Path) -> None:
    import warmstart
    from warmstart.cli.main import VERBS

    commands = {command for case in cases(room) for command in case.verbs}
    verbs = {
        f"{name} {below}".strip() for name, verb in VERBS.items() for below in (verb.verbs or [""])
    }
    functions = {
        f"{below}.{name}".strip(".")
        for below, place in (("", warmstart), ("adapters", warmstart.adapters),
                             ("retrieval", warmstart.retrieval), ("tokenizer", warmstart.tokenizer))
        for name in place.__all__ if inspect.isfunction(getattr(place, name))
    }  # fmt: skip
    assert not {verb for verb in verbs if not any(c.startswith(f"{verb} ") for c in commands)}
    calls = "\n".join(command for command in commands if command.startswith("py "))
    assert not {name for name in functions if f"warmstart.{name}(" not in calls}
    assert not set(re.findall(r"\bwarmstart\.((?:\w+\.)?[a-z_]+)\(", calls)) - functions


def test_a_sample_of_the_walk(room: Path) -> None:
    _, faults = walk(room, range(0, len(cases(room)), SAMPLE))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_the_walk(part: int, room: Path) -> None:
    _, faults = walk(room, range(part, len(cases(room)), 4))
    assert not faults, "\n".join(faults)
