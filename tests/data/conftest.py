"""What the tests of the data layer share: small files and one way to load them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.data.settings import Data, Reading
from warmstart.data.splitting import load

ROLES = {
    "text": ("text", "sentence", "content", "message", "body", "title"),
    "label": ("label", "category", "class", "intent", "type", "y"),
}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """put(name, content) writes a file below tmp_path and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def rows() -> Callable[..., SimpleNamespace]:
    """rows(source, ...) reads a source; .table, .ledger, and .rows as a list of dictionaries."""

    def reading(source: Any, **options: Any) -> SimpleNamespace:
        ledger = Ledger()
        table = read(source, ledger=ledger, how=Reading(**options))
        return SimpleNamespace(table=table, ledger=ledger, rows=table.to_pylist())

    return reading


@pytest.fixture
def split() -> Callable[..., SimpleNamespace]:
    """split(source, seed=0, **settings) loads text and label; .splits and .ledger."""

    def loading(source: Any = None, seed: int = 0, **settings: Any) -> SimpleNamespace:
        ledger = Ledger()
        if isinstance(source, Path):
            settings["path"], source = str(source), None
        splits = load(Data(**settings), ROLES, {"text", "label"}, seed, ledger, source)
        return SimpleNamespace(splits=splits, ledger=ledger, summary=ledger.summary())

    return loading


@pytest.fixture
def csv_text() -> Callable[..., str]:
    """csv_text(n, classes) is a CSV of n different texts, the classes in turn."""

    def build(n: int = 40, classes: Sequence[str] = ("pos", "neg"), word: str = "text") -> str:
        body = "".join(f"{word} number {i},{classes[i % len(classes)]}\n" for i in range(n))
        return "text,label\n" + body

    return build
