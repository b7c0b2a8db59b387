"""One server with a tiny model for every route, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from served import Running, all_kinds, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Listens; its models are not to be changed."""
    pytest.importorskip("fastapi")
    with running(all_kinds(tmp_path_factory.mktemp("served"))) as started:
        yield started
