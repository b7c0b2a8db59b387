"""Starting is cheap: the heavy libraries load only when a model is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = [
    *("torch", "transformers", "datasets", "peft", "sklearn", "scipy", "pandas", "pyarrow"),
    *("numpy", "tokenizers", "safetensors", "huggingface_hub", "sentence_transformers"),
]


def heavy_modules_after(*arguments: str) -> tuple[int, list[str], str]:
    """Exit code, the heavy modules that a fresh interpreter loaded, and what it printed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
    assert "sys" in loaded or "site" in loaded, "the interpreter reported no imports"
    return done.returncode, sorted(loaded.intersection(HEAVY)), done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import warmstart"],
        ["-c", "import warmstart; dir(warmstart)"],
        ["-m", "warmstart", "--help"],
        ["-m", "warmstart", "--version"],
    ],
    ids=" ".join,
)
def test_starting_loads_nothing_heavy(arguments: list[str]):
    code, heavy, printed = heavy_modules_after(*arguments)
    assert code == 0, printed
    assert heavy == []


@pytest.mark.parametrize("verb", ["recipe", "models", "predict --help", "adapters list --help"])
def test_what_asks_no_model_loads_no_torch(verb: str):
    code, heavy, printed = heavy_modules_after("-m", "warmstart", *verb.split())
    assert code == 0, printed
    assert not {"torch", "transformers", "peft", "sklearn", "scipy"} & set(heavy)


def test_help_names_the_verbs():
    _, _, printed = heavy_modules_after("-m", "warmstart", "--help")
    missing = [
        verb
        for verb in ("demo", "tune", "inspect", "evaluate", "predict", "models", "recipe")
        if verb not in printed
    ]
    assert missing == []
