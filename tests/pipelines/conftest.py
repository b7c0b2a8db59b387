"""A process that does jobs and survives their deaths."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from learning import ENVIRONMENT, write_messages


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 labelled messages."""
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 80)


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """job(out=…, data=…, keys=…, die=…, resume=…) -> exit status; see killable.py."""
    folder = tmp_path_factory.mktemp("killable")
    with (
        (folder / "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "killable.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env=ENVIRONMENT, cwd=folder,
        ) as process,
    ):  # fmt: skip
        assert process.stdin and process.stdout

        def do(**what: Any) -> int:
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps(what, default=str) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            if answer in ("", "99"):
                pytest.fail((folder / "errors").read_text())
            return int(answer)

        yield do
        process.stdin.close()
