"""The guide's page "Running without warmstart", in processes that cannot import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from test_docs import ROOT, blocks_of, run_bash

PAGE = ROOT / "docs" / "guide" / "running-without-warmstart.md"
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "warmstart":
            raise ImportError("warmstart is not here")

sys.meta_path.insert(0, Blocked())
"""


def test_no_block_of_the_page_imports_warmstart() -> None:
    blocks = [block.code for block in blocks_of(PAGE.read_text("utf-8"))
              if block.language == "python"]  # fmt: skip
    assert len(blocks) >= 4 and not any("warmstart" in block for block in blocks)


@pytest.mark.slow
def test_every_block_runs_where_warmstart_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preloaded: dict[str, str]
) -> None:
    import warmstart

    monkeypatch.chdir(tmp_path)
    for name, value in preloaded.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SAMPLES", str(ROOT / "src" / "warmstart" / "samples"))
    blocks = blocks_of(PAGE.read_text("utf-8"))
    for block in blocks:
        if block.language == "bash":
            run_bash(block.code, PAGE.name)
    code = "\n".join(block.code for block in blocks if block.language == "python")
    ours = warmstart.predict("runs/tickets", ["my parcel never came"])
    assert isinstance(ours, list)
    check = f"\nassert best['label'] == {ours[0].value!r}"
    check += f"\nassert abs(best['score'] - {ours[0].confidence!r}) < 1e-4"
    check += "\nassert 'warmstart' not in sys.modules"
    done = subprocess.run([sys.executable, "-I", "-c", BLOCKED + code + check], capture_output=True,
                          text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
