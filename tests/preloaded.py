"""Processes whose imports are done: a server that has them forks one for each command.

The imports of a new process cost more than most commands. `Preloaded` starts this file as a server
and puts the programs `warmstart` and `python` (FILE, -c CODE, or - for stdin) into a folder for the
front of the PATH. What they run is a process of its own with the arguments, environment, current
folder, streams (closed ones too) and limit of memory of its caller, whose signals reach it, and
which gets its exit status; a `python -c` that it starts itself is preloaded as well.
tests/test_import_time.py and tests/test_cli.py start processes as a user does.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from shortened import VARIABLE, shortening

CLIENT = """\
#!{python} -SE
import json, os, resource, signal, socket, sys
if sys.argv[0].endswith("python") and sys.argv[1][:1] == "-" and sys.argv[1] not in ("-", "-c"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
streams = []
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        os.fstat(number)
        streams.append(number)
    except OSError:  # what listed them
        pass
job = dict(words=sys.argv, environment=dict(os.environ), folder=os.getcwd(), streams=streams,
           memory=resource.getrlimit(resource.RLIMIT_AS))
job = json.dumps(job).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
socket.send_fds(server, [len(job).to_bytes(8, "big")], streams)
server.sendall(job)
answers = server.makefile()
process = int(answers.readline())
for one in (signal.SIGINT, signal.SIGTERM):
    signal.signal(one, lambda number, _: os.kill(process, number))
status = int(answers.readline() or 70)
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""
SRC = Path(__file__).parents[1] / "src"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SRC)}
LATE = """peft sklearn.linear_model sklearn.feature_extraction.text transformers.pipelines pandas
datasets huggingface_hub.errors torch._dynamo
transformers.models.bert.modeling_bert transformers.models.bert.tokenization_bert
transformers.models.gpt2.modeling_gpt2 transformers.models.t5.modeling_t5""".split()
"""What is imported only where it is used."""


class Preloaded:
    """A server, from its start to its end, and the folder of the program that asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder, path = folder, str(folder / "socket")
        self._server = subprocess.Popen(
            [sys.executable, __file__, path], stdin=subprocess.PIPE, env=ENVIRONMENT,
            start_new_session=True,
        )  # fmt: skip
        for name in ("warmstart", "python"):
            (folder / name).write_text(CLIENT.format(python=sys.executable, path=path))
            (folder / name).chmod(0o755)

    def end(self) -> None:
        self._server.communicate()  # closes its stdin


def environment(folder: Path) -> dict[str, str]:
    """In which `warmstart` asks the server of a folder; waits until that has loaded."""
    begun = time.monotonic()
    while not (folder / "socket").exists():
        assert time.monotonic() - begun < 300, "the server of preloaded.py did not start"
        time.sleep(0.05)
    return {**ENVIRONMENT, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def load() -> None:
    """Import what the commands need."""
    import warmstart

    for module in pkgutil.walk_packages(warmstart.__path__, "warmstart."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra
                importlib.import_module(module.name)
    for name in LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from jinja2 import UndefinedError

    from warmstart.reporting.page import page

    with contextlib.suppress(UndefinedError):
        page("report.html.j2", {})  # compiles it
    gc.collect()
    gc.freeze()  # else each process would copy all of it when it looks for garbage


def serve(path: str) -> None:
    """Answer until stdin is closed."""
    load()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            watch(connection)
            return
        connection.close()


def watch(connection: socket.socket) -> None:
    """Run one command in a process below this one and tell its end; return in that process only
    when it is done."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 32)
    with connection.makefile("rb") as file:
        job = json.loads(file.read(int.from_bytes(size, "big")))
    process = os.fork()
    if process == 0:
        connection.close()
        become(job, streams)
        return
    connection.sendall(b"%d\n" % process)
    for stream in streams:
        os.close(stream)
    end = os.pidfd_open(process)
    ready, _, _ = select.select([end, connection], [], [])
    if end not in ready:  # whoever asked is gone
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % status)
    os._exit(0)


def become(job: dict[str, Any], streams: list[int]) -> None:
    """Be the process that was asked for."""
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[:0] = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    if rule := os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter(rule)  # pyright: ignore[reportArgumentType]
    apart = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 200) for stream in streams]
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    for number, stream in zip(job["streams"], apart, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = None
        if number in job["streams"]:
            errors = "backslashreplace" if name == "stderr" else "surrogateescape"
            stream = open(  # noqa: SIM115
                number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False
            )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    resource.setrlimit(resource.RLIMIT_AS, tuple(job["memory"]))
    if words := os.environ.get(VARIABLE):
        steps, minilm = words.split(maxsplit=1)
        for change in shortening(int(steps), Path(minilm)):
            setattr(*change)
    sys.argv = job["words"]
    sys.executable = str(Path(sys.argv[0]).with_name("python"))
    if Path(sys.argv[0]).name == "warmstart":
        from warmstart.cli.main import main

        leave(main())
    del sys.argv[0]
    file = sys.argv[0]
    if file == "-c":
        code = sys.argv.pop(1)
    else:
        code = sys.stdin.read() if file == "-" else Path(file).read_text()
    try:
        exec(compile(code, sys.argv[0], "exec", dont_inherit=True), {"__name__": "__main__"})
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 1)
    leave(0)


def leave(code: int) -> None:
    """End as an interpreter does, but for taking apart its modules, which costs more than most
    commands."""
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:
        code = 120
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
