"""What the tests of the models share: tiny models, and a hub of our own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from hub_server import HubServer  # noqa: E402

from tiny import tiny  # noqa: E402


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A tiny BERT that the test may spoil."""
    return tiny("bert", tmp_path / "bert")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server
