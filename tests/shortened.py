"""Training made short, for tests of what stands around it: few steps, few layers of the base."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

VARIABLE = "SHORTENED_IN_TESTS"
"""Where it is set, a process of preloaded.py begins with `shortening` by these words."""
LAYERS = 2


def shallow(folder: Path) -> Path:
    """A copy of the packaged base `minilm` that has its first layers only."""
    from safetensors.torch import load_file, save_file

    from warmstart.models.base import folder_of

    whole = folder_of("minilm")
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    above = tuple(f"encoder.layer.{n}." for n in range(LAYERS, config["num_hidden_layers"]))
    weights = load_file(whole / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(above)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    config["num_hidden_layers"] = LAYERS
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def shortening(steps: int, minilm: Path) -> list[tuple[Any, str, Any]]:
    """What `setattr` does it with: no training run has more than `steps` steps, a baseline has one
    strength, the speed of engines is measured briefly, forgetting on few passages, and `minilm` is
    the one in this folder. Settings, and what is written of them, stay those asked for."""
    from warmstart.evaluation import forgetting
    from warmstart.evaluation.baselines import tfidf
    from warmstart.models import base
    from warmstart.models.checks import file_sha256
    from warmstart.pipelines.measuring import trials
    from warmstart.training.batches import BatchSource, Length

    whole, packaged = BatchSource.length, base.EMBEDDED["minilm"]
    sums = {name: file_sha256(minilm / name) for name in packaged.sums}

    def length(source: BatchSource) -> Length:
        asked = whole(source)
        if asked.steps <= steps:
            return asked
        return Length(steps, tuple(start for start in asked.starts if start < steps))

    return [
        (BatchSource, "length", length),
        (tfidf, "CHOICE_WORK", 0),
        (trials, "SECONDS", 0.1),
        (forgetting, "WORK", 0),
        (forgetting, "FEWEST", 10),
        (base, "EMBEDDED", {"minilm": replace(packaged, sums=sums)}),
        (base, "folder_of", lambda _: minilm),
    ]
