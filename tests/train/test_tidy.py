"""The heap is tidied while training goes on, now and then."""

from __future__ import annotations

from typing import Any

import pytest

from warmstart.train import tidy


def test_every_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    listener = tidy.Tidy()
    for index in range(1, 1001):
        monkeypatch.setattr(tidy, "trim", lambda at=index: trimmed.append(at))
        step: Any = type("Step", (), {"index": index})
        listener.step(step, 1000)
    assert trimmed == [200, 400, 600, 800, 1000]
