"""Downloads from a hub, each in a process of its own, as a user's would be."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, HubServer

from tiny import tiny

SCRIPT = """
import dataclasses, json, os, sys
for name in list(sys.modules):  # the library reads its settings when it is imported
    if name.partition(".")[0] in ("warmstart", "huggingface_hub"):
        del sys.modules[name]
exec(os.environ.get("SITE", ""))
from warmstart.errors import WarmstartError
from warmstart.models import base as catalog
try:
    base = catalog.resolve(sys.argv[1], revision=sys.argv[2] or None)
    print(json.dumps(dataclasses.asdict(base), default=str))
except WarmstartError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""
CHUNK = 10 * 1024 * 1024  # huggingface_hub writes what has come in pieces of this size
SRC = Path(__file__).parents[2] / "src"

Resolve = Callable[..., dict[str, Any]]


@pytest.fixture
def resolve(hub: HubServer, tmp_path: Path, preloaded: dict[str, str]) -> Resolve:
    """Resolve a name in a fresh process with a hub cache of its own."""

    def run(name: str = "org/tiny", revision: str = "", **env: str) -> dict[str, Any]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
        done = subprocess.run(
            ["python", "-c", SCRIPT, name, revision],
            env=clean | settings | {"PATH": preloaded["PATH"], "PYTHONPATH": str(SRC)} | env,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert all("trying again" in line for line in done.stderr.splitlines()), done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def tiny_repo(hub: HubServer, tiny_of: Callable[[str], Path]) -> Path:
    """`org/tiny`, with a few files beside the model that nobody should touch."""
    folder = tiny_of("bert")
    hub.add("org/tiny", folder)
    hub.repos["org/tiny"] |= {
        "README.md": b"---\nlicense: mit\n---\n# Tiny\n",
        "pytorch_model.bin": b"pickle",
        "modeling_tiny.py": b"raise SystemExit('never')",
        "fp16/model.safetensors": b"another",
        "consolidated.safetensors": b"yet another",
    }
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_download_takes_the_model_and_nothing_else(
    hub: HubServer, resolve: Resolve, tiny_repo: Path
) -> None:
    base = resolve()
    assert base["source"] == "hub"
    assert base["revision"] == COMMIT
    assert base["sha256"] == sha256(tiny_repo / "model.safetensors")
    assert base["license"] == "mit"
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert hub.fetched() == wanted | {"README.md"}


def test_second_call_is_offline(hub: HubServer, resolve: Resolve, tiny_repo: Path) -> None:
    first = resolve()
    hub.requests.clear()
    assert resolve(HF_HUB_OFFLINE="1") == first
    assert hub.requests == []
    hub.stop()
    assert resolve() == first


@pytest.fixture
def big_repo(hub: HubServer, tmp_path: Path) -> Path:
    """`org/tiny` with 25 MB of weights."""
    folder = tiny("bert", tmp_path / "big", intermediate_size=50_000)
    hub.add("org/tiny", folder)
    return folder


def test_broken_connection_is_resumed(hub: HubServer, resolve: Resolve, big_repo: Path) -> None:
    hub.cut["model.safetensors"] = CHUNK + 1000
    base = resolve()
    assert hub.ranges("model.safetensors") == [f"bytes={CHUNK}-"]
    assert base["sha256"] == sha256(big_repo / "model.safetensors")


def test_a_download_that_broke_off_begins_anew(
    hub: HubServer, resolve: Resolve, big_repo: Path
) -> None:
    hub.cut["model.safetensors"] = CHUNK + 1000
    hub.down.add("model.safetensors")
    answer = resolve()
    assert answer["error"] == "HubError"
    assert "broke off several times on its way: try again" in answer["message"]
    hub.down.clear()
    assert resolve()["sha256"] == sha256(big_repo / "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_download_is_refused(
    name: str, hub: HubServer, resolve: Resolve, tiny_repo: Path
) -> None:
    hub.garble.add(name)
    answer = resolve()
    assert answer["error"] == "HubError"
    assert "came damaged" in answer["message"]
    hub.garble.clear()
    assert resolve()["sha256"] == sha256(tiny_repo / "model.safetensors")


def test_damaged_cache_is_refused(resolve: Resolve, tiny_repo: Path) -> None:
    blob = (Path(resolve()["path"]) / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    answer = resolve(HF_HUB_OFFLINE="1")
    assert answer["error"] == "HubError"
    assert f"delete {blob}" in answer["message"]


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "RepoNotFound", "HF_TOKEN"),
        (401, "GatedRepo", "gated: accept its terms"),
        (403, "GatedRepo", "gated: accept its terms"),
        (403, "", "may not be read"),
        (404, "RepoNotFound", "check the name"),
    ],
)
def test_refusals(hub: HubServer, resolve: Resolve, status: int, code: str, says: str) -> None:
    hub.refuse["org/tiny"] = (status, code)
    answer = resolve()
    assert answer["error"] == "HubError"
    assert says in answer["message"]
    assert "\n" not in answer["message"]


def test_token_opens_a_private_model(hub: HubServer, resolve: Resolve, tiny_repo: Path) -> None:
    hub.token["org/tiny"] = "hf_secret"
    assert resolve()["error"] == "HubError"
    assert resolve(HF_TOKEN="hf_secret")["revision"] == COMMIT


def test_unknown_revision(resolve: Resolve, tiny_repo: Path) -> None:
    assert "has no revision 'v9'" in resolve(revision="v9")["message"]


def test_offline_and_not_in_the_cache(resolve: Resolve, tiny_repo: Path) -> None:
    assert "HF_HUB_OFFLINE" in resolve(HF_HUB_OFFLINE="1")["message"]


def test_hub_out_of_reach(hub: HubServer, resolve: Resolve) -> None:
    hub.stop()
    answer = resolve("minilmm")
    assert "cannot be reached" in answer["message"]
    assert "Did you mean 'minilm'?" in answer["message"]


def test_pickle_is_never_fetched(hub: HubServer, resolve: Resolve) -> None:
    hub.repos["org/tiny"] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    answer = resolve()
    assert answer["error"] == "BaseModelError"
    assert "pickled weights, which are never read" in answer["message"]
    assert "save_pretrained" in answer["message"]
    assert hub.fetched() == set()


@pytest.mark.parametrize(
    ("name", "etag"),
    [("config.json", "../../../canary"), ("model.safetensors", "/tmp/canary"),
     ("README.md", ".."), ("model.safetensors", "a/b")],
)  # fmt: skip
def test_a_hub_names_no_file_elsewhere(
    name: str, etag: str, hub: HubServer, resolve: Resolve, tiny_repo: Path, tmp_path: Path
) -> None:
    before = {path for path in tmp_path.rglob("*") if "hf" not in path.parts}
    hub.etag[name] = etag
    answer = resolve()
    assert answer["error"] == "HubError" and "no name of a file" in answer["message"]
    assert {path for path in tmp_path.rglob("*") if "hf" not in path.parts} == before
    assert not list(tmp_path.rglob("*canary*"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_no_more_is_taken_than_was_announced(
    name: str, hub: HubServer, resolve: Resolve, tiny_repo: Path, tmp_path: Path
) -> None:
    hub.endless.add(name)
    answer = resolve()
    assert answer["error"] == "HubError" and "more than the" in answer["message"]
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) < 30_000_000


def test_a_hub_that_hardly_sends_is_given_up(
    hub: HubServer, resolve: Resolve, tiny_repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.slow.add("model.safetensors")
    answer = resolve(SITE="from warmstart.models import hub; hub.BEGINNING = 0.5")
    assert answer["error"] == "HubError" and "bytes a second" in answer["message"]
