"""The files of deploy/: they parse, agree with the server, and give no right too many."""

from __future__ import annotations

import configparser
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from served import Running
from warmstart.serving.auth import KEYS, OPEN, new_key
from warmstart.serving.settings import Serving

DEPLOY = Path(__file__).parents[2] / "deploy"
GRACE = Serving().drain_seconds + Serving().run_seconds


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def manifests() -> Mapping[str, Any]:
    yaml = pytest.importorskip("yaml")
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def settings_named(words: list[str]) -> None:
    """Every --setting is one of the server's."""
    names = [word.removeprefix("--") for word in words if word.startswith("--")]
    assert set(names) <= Serving.model_fields.keys(), names


def test_the_container_runs_as_nobody_and_is_looked_after():
    steps = instructions()
    last = dict(steps)
    users = [rest for word, rest in steps if word == "USER"]
    assert users == ["10001:10001"]
    assert steps.index(("USER", users[0])) > max(n for n, s in enumerate(steps) if s[0] == "RUN")
    assert last["EXPOSE"] == "8000" and last["STOPSIGNAL"] == "SIGTERM"
    assert "/readyz" in last["HEALTHCHECK"] and "HF_HUB_OFFLINE=1" in last["ENV"]
    entry = json.loads(last["ENTRYPOINT"])
    assert entry[:2] == ["warmstart", "serve"] and entry[entry.index("--port") + 1] == "8000"
    settings_named(entry)
    copied = [path for word, rest in steps if word == "COPY" and "--from" not in rest
              for path in rest.split()[:-1]]  # fmt: skip
    assert copied and all((DEPLOY.parent / path).exists() for path in copied)
    wanted = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{path}" for path in copied} <= set(wanted), "what is copied is sent to the build"


def test_the_unit_hands_over_its_keys_and_may_do_little():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(DEPLOY / "warmstart.service")
    service = unit["Service"]
    words = shlex.split(service["ExecStart"])
    settings_named(words)
    assert words[words.index("--keys") + 1] == "%d/keys"
    assert service["LoadCredential"] == "keys:/etc/warmstart/keys"
    assert Serving(host=words[words.index("--host") + 1]).is_local
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == "" and service["ProtectSystem"] == "strict"
    assert service["KillSignal"] == "SIGTERM" and int(service["TimeoutStopSec"]) > GRACE


def test_systemd_itself_understands_the_unit(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    text = (DEPLOY / "warmstart.service").read_text()
    program = tmp_path / "warmstart"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "warmstart.service").write_text(
        text.replace("/opt/warmstart/bin/warmstart", str(program))
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "warmstart.service")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "warmstart.service" in line]
    assert not ours, ours


def test_the_manifest_probes_hides_and_hardens():
    kinds = manifests()
    assert set(kinds) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in
              ("liveness", "readiness", "startup")}  # fmt: skip
    assert {probe["path"] for probe in probes.values()} == set(OPEN)
    assert probes["liveness"]["path"] == "/healthz" and probes["readiness"]["path"] == "/readyz"
    assert all(probe["port"] == "http" for probe in probes.values())
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    (keys,) = [env for env in container["env"] if env["name"] == KEYS]
    assert keys["valueFrom"]["secretKeyRef"] == {"name": "warmstart-keys", "key": "sums"}
    assert "value" not in keys
    assert pod["terminationGracePeriodSeconds"] > GRACE
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts["/models"]["readOnly"] and "/tmp" in mounts
    assert kinds["NetworkPolicy"]["spec"]["egress"] == []
    settings_named(container["args"])


def test_no_key_and_no_address_of_an_index_stands_anywhere():
    for path in DEPLOY.iterdir():
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"\bws-[\w-]{20,}|\b[0-9a-f]{64}\b", text), path
            assert not re.search(r"index-url|https?://(?!127\.0\.0\.1)", text), path


def test_a_replica_on_ray_is_the_same_server(server: Running, monkeypatch: pytest.MonkeyPatch):
    """Ray itself is not installed here: its two decorators are stood in for."""
    from starlette.testclient import TestClient

    built: dict[str, Any] = {}

    class Bound:
        def bind(self) -> Bound:
            return self

    def ingress(build: Any) -> Any:
        built["app"] = build
        return Bound

    def deployment(**settings: Any) -> Any:
        built.update(settings)
        return lambda kind: kind

    ray: Any = types.ModuleType("ray")
    ray.serve = types.SimpleNamespace(ingress=ingress, deployment=deployment)
    monkeypatch.setitem(sys.modules, "ray", ray)
    key, known = new_key()
    monkeypatch.setenv(KEYS, known)
    monkeypatch.setenv("MODELS", f"own={server.models.named('classes').folder}")
    monkeypatch.setenv("REPLICAS", "3")
    names = runpy.run_path(str(DEPLOY / "ray_serve.py"))
    assert isinstance(names["app"], Bound) and built["num_replicas"] == 3
    assert built["graceful_shutdown_timeout_s"] > GRACE
    application = built["app"]()
    client = TestClient(application)
    body = {"model": "own", "input": "the film was good"}
    assert client.post("/v1/classify", json=body).status_code == 401
    answer = client.post("/v1/classify", json=body, headers={"Authorization": f"Bearer {key}"})
    there = server.post("/v1/classify", model="classes", input=body["input"]).json()
    assert answer.json()["data"] == there["data"]
    application.state.models.close()
