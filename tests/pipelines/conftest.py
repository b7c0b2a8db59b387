"""Runs in processes of their own, which may die."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning import write_messages

KILLABLE = Path(__file__).parent / "killable.py"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 labelled messages."""
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 80)


@pytest.fixture(scope="session")
def job(preloaded: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """job(out=…, data=…, keys=…, die=…, resume=…) -> exit status; see killable.py."""
    folder = tmp_path_factory.mktemp("killable")

    def do(**what: Any) -> int:
        done = subprocess.run(
            ["python", str(KILLABLE), json.dumps(what, default=str)],
            env=preloaded, cwd=folder, text=True, capture_output=True,
        )  # fmt: skip
        if done.returncode == 1:
            pytest.fail(done.stderr)
        return done.returncode

    return do
