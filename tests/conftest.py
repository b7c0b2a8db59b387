"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from preloaded import Preloaded, environment
from tiny import tiny

SERVER = pytest.StashKey[Preloaded]()
PAGES = "test_docs.py::test_page["


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The guide's pages train whole models: they go first, some to each worker of xdist, whose
    `worksteal` begins with as many parts of the list as there are workers."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    rest = [item for item in items if PAGES not in item.nodeid]
    pages = sorted(
        (item for item in items if PAGES in item.nodeid),
        key=lambda item: -item.callspec.params["page"].stat().st_size,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    )
    parts = [
        [*pages[n::workers], *rest[len(rest) * n // workers : len(rest) * (n + 1) // workers]]
        for n in range(workers)
    ]
    items[:] = [item for part in parts for item in part]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """What has been loaded when a file of tests begins stays, so it is not looked through for
    garbage: every training run looks for some, several times, which cost more than the run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public data beside the project; the test is skipped where it is not."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("shared/data is not on this machine")
    return folder


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a family, made once; not to be changed."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tiny(family, tmp_path_factory.mktemp("tiny") / family)
        return made[family]

    return get


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Start the server of preloaded.py for all workers of xdist, while they collect the tests."""
    config = node.config
    if SERVER not in config.stash:
        config.stash[SERVER] = Preloaded(Path(tempfile.mkdtemp(prefix="preloaded-")))
    node.workerinput["preloaded"] = str(config.stash[SERVER].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(SERVER, None):
        server.end()
        shutil.rmtree(server.folder)


@pytest.fixture(scope="session")
def preloaded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment in which `warmstart` starts with its imports done (see preloaded.py)."""
    if folder := getattr(request.config, "workerinput", {}).get("preloaded"):
        yield environment(Path(folder))
        return
    server = Preloaded(tmp_path_factory.mktemp("preloaded"))
    yield environment(server.folder)
    server.end()


@pytest.fixture(scope="module")
def tried_here() -> Iterator[None]:
    """What `compress` tries is tried in this process, and for a moment; `test_exported` has the
    others."""
    from safetensors.numpy import load_file

    from warmstart.pipelines.measuring import trials

    def tried(candidate: Any, rows: Path, calibration: Path, out: Path) -> Any:
        words = str(candidate.folder), candidate.engine, candidate.settings
        trials.answer(*words, str(rows), str(calibration), str(out), 0.01)
        return load_file(out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "_try", tried)
        yield
