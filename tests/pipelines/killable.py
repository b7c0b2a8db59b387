"""Runs that die: reads one job a line, does each in a process of its own, tells how it ended.

A job is JSON: {"keys": …, "data": …, "out": …, "resume": bool, "die": when}, where `die` is one
of {"step": n}, {"save": n} (in the n-th checkpoint, between the tensors and the manifest),
{"model": n} (while the model folder is being put in place), {"interrupt": n} (SIGINT after step n,
survived) or null. The answer is the exit status as `subprocess` gives it: -9 for SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("error")

import peft  # noqa: E402, F401
import sklearn.linear_model  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers.pipelines  # noqa: E402, F401

from warmstart import api  # noqa: E402
from warmstart.training import checkpoint  # noqa: E402
from warmstart.types import Listener  # noqa: E402


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class AtStep(Listener):
    def __init__(self, when: int, how: int) -> None:
        self.when, self.how = when, how

    def step(self, step: Any, total: int) -> None:
        if step.index == self.when:
            os.kill(os.getpid(), self.how)


def arrange(when: dict[str, int] | None) -> list[Listener]:
    """Make this process die when it is told to."""
    when = when or {}
    if "step" in when:
        return [AtStep(when["step"], signal.SIGKILL)]
    if "interrupt" in when:
        return [AtStep(when["interrupt"], signal.SIGINT)]
    if "save" in when:
        write, left = checkpoint._write, [when["save"]]

        def stop(path: Path, text: str) -> None:
            left[0] -= path.name == checkpoint.MANIFEST
            if left[0] == 0:
                die()
            write(path, text)

        checkpoint._write = stop
    if "model" in when:
        replace = os.replace

        def place(part: Path, path: Path) -> None:
            if "model" in (Path(path).name, Path(path).parent.name):  # or `model/<task>`
                die()
            replace(part, path)

        os.replace = place
    return []


def work(job: dict[str, Any]) -> int:
    from warmstart.training.progress import Interrupted

    listeners = arrange(job.get("die"))
    try:
        if job.get("resume"):
            api.tune(resume=job["out"], listeners=listeners)
        else:
            api.tune(job["data"], out=job["out"], listeners=listeners, **job["keys"])
    except Interrupted:
        return 130
    return 0


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                code = work(json.loads(line))
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


main()
