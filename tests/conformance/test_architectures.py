"""Every task on every architecture that transformers has, known to us or not: each is computed, or
refused in one line before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
import warmstart
from conformance.test_task_family import BUILDERS, builder
from warmstart.config.recipe import Recipe
from warmstart.errors import BaseModelError, WarmstartError
from warmstart.models import loading
from warmstart.pipelines.prepare import prepare
from warmstart.pipelines.session import Session
from warmstart.training.loop import compute_gradients

TASKS = sorted(path.stem for path in BUILDERS.glob("*.py") if path.stem[0] != "_")
TASKS.remove("custom")
FAMILIES = (*tiny.CONFIGS, *tiny.OTHERS)
QUICK = ("t5", "longformer", "deberta", "fnet", "xmod", "m2m_100", "mt5")
"""Each is tried with every third task whenever tests are run; the rest is slow."""
READS_PADDING = ("fnet", "nystromformer", "yoso", "convbert")
"""An answer depends on what stands beside it: nothing but a trial can tell."""
CELLS = [
    pytest.param(
        task, family,
        marks=[] if family in QUICK and (QUICK.index(family) + number) % 3 == 0
        else pytest.mark.slow,
    )
    for family in FAMILIES
    for number, task in enumerate(TASKS)
]  # fmt: skip
TEXTS = ("text", "source", "sentence1", "context")


def rows_of(task: str) -> list[dict[str, Any]]:
    """The rows of a task's conformance, each many times with another word behind it."""
    return [
        {key: longer(key, value, word) for key, value in row.items()}
        for word in tiny.WORDS[:12]
        for row in builder(task).ROWS
    ]


def longer(key: str, value: Any, word: str) -> Any:
    if key == "tokens":
        return [*value, word]
    if key == "ner_tags":
        return [*value, "O"]
    return f"{value} {word}" if key in TEXTS else value


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    files = {task: folder / f"{task}.jsonl" for task in TASKS}
    for task, file in files.items():
        file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(task)))
    return files


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = tiny.tiny(family, tmp_path_factory.mktemp("bases") / family)
        return made[family]

    return get


def keys_of(task: str, base: Path, data: Path) -> dict[str, Any]:
    settings = getattr(builder(task), "SETTINGS", {})
    return {
        "base": str(base), "data.path": str(data), "data.similarity": 0.0, "task.name": task,
        **{f"task.{key}": value for key, value in settings.items()},
        "train.max_steps": 1, "evaluate.baselines": False, "evaluate.bootstrap": 100,
    }  # fmt: skip


@pytest.mark.parametrize(("task", "family"), CELLS)
def test_it_works_or_is_refused(
    task: str, family: str, data: Mapping[str, Path], base_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    loads = loading.load_headed
    monkeypatch.setattr(loading, "load_headed", lambda *a, **k: read.append("") or loads(*a, **k))
    refused = ""
    try:
        session = Session.begin(prepare(Recipe.of(keys_of(task, base_of(family), data[task]))))
    except WarmstartError as error:
        refused = str(error)
    assert "\n" not in refused
    if refused:
        assert not read or (family in READS_PADDING and "padding" in refused), refused
        return
    source = session.source("train")
    session.forward.begin_epoch(0)
    session.forward.begin_step(0)
    batches = source.batches(source.plan(0)[0], np.random.default_rng(0))
    loss, _, _ = compute_gradients(session.objective, session.forward, batches)
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("task", "method", "family"),
    [("tagging", "full", "t5"), ("tagging", "lora", "t5"), ("tagging", "partial", "t5"),
     ("extractive_qa", "full", "t5"), ("extractive_qa", "lora", "t5"),
     ("extractive_qa", "full", "longformer"), ("tagging", "partial", "longformer"),
     ("classification", "partial", "longformer"), ("classification", "full", "deberta"),
     ("few_shot", "partial", "bert"), ("translation", "full", "mbart")],
)  # fmt: skip
def test_what_once_failed_is_trained_and_proven(
    task: str, method: str, family: str, data: Mapping[str, Path], base_of: Any, tmp_path: Path
) -> None:
    keys = keys_of(task, base_of(family), data[task])
    more = {"method.layers": 1} if method == "partial" else {}
    run = warmstart.tune(method=method, out=str(tmp_path / "run"), **keys, **more)
    assert run.status == "done" and run.proof["passed"]


def test_what_depends_on_padding_is_not_trained(
    data: Mapping[str, Path], base_of: Any, tmp_path: Path
) -> None:
    keys = keys_of("tagging", base_of("fnet"), data["tagging"])
    with pytest.raises(BaseModelError, match="'fnet' answers otherwise where a text stands beside"):
        warmstart.tune(out=str(tmp_path / "run"), **keys)
