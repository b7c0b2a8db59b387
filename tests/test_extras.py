"""Every extra says how old its packages may be, is what messages name, and installs by itself
beside the pinned torch and transformers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from warmstart import part
from warmstart.errors import RecipeError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NAME = re.compile(r"[\w.-]+")
FORMED = [name for name in part.names("engine") if hasattr(part.find("engine", name), "libraries")]


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return name.lower().replace("_", "-")


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_of_an_extra_has_a_lower_bound(extra: str) -> None:
    bare = [line for line in EXTRAS[extra] if ">=" not in line and "==" not in line]
    assert not bare


@pytest.mark.parametrize("name", FORMED)
def test_engine_whose_library_is_missing_names_an_extra_that_holds_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = part.make("engine", name)
    homes = packages_distributions()
    for library in (*engine.libraries, *engine.makers):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(RecipeError, match=f"engine {name} needs {library}, which") as missing:
            engine.require((library,))
        named = re.search(r"pip install 'warmstart\[(\w+)\]'$", str(missing.value))
        assert named is not None
        held = {plain(match[0]) for line in EXTRAS[named[1]] if (match := NAME.match(line))}
        assert held & {plain(home) for home in homes.get(library, [library])}


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_installs_alone_beside_the_pinned_torch_and_transformers(
    extra: str, tmp_path: Path
) -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    report = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
        "--report", str(report), "-c", str(ROOT / "constraints.txt"), "torch", "transformers",
        *EXTRAS[extra],
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=540)
    if "No matching distribution found for" in done.stderr and "(from versions: none)" in (
        done.stderr
    ):
        pytest.skip("pip has no index with these packages here")
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = {
        plain(row["metadata"]["name"]): row["metadata"]["version"]
        for row in json.loads(report.read_text(encoding="utf-8"))["install"]
    }
    for package in ("torch", "transformers"):
        pin = re.search(rf"^{package}==(\S+)$", pinned, re.MULTILINE)
        assert pin is not None and chosen[package].partition("+")[0] == pin[1]
