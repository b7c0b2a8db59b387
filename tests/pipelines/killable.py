"""A run that dies: does the job that its argument tells.

A job is JSON: {"keys": …, "data": …, "out": …, "resume": bool, "die": when}, where `die` is one
of {"step": n}, {"save": n} (in the n-th checkpoint, between the tensors and the manifest),
{"model": n} (while the model folder is being put in place), {"interrupt": n} (SIGINT after step n,
survived: exit status 130) or null.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

from warmstart import api
from warmstart.training import checkpoint
from warmstart.types import Listener


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


warnings.simplefilter("error")
sys.exit(work(json.loads(sys.argv[1])))
