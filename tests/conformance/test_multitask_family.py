"""Two tasks over one body on every family that has heads for both, with tiny random models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conformance.tasks import classification, tagging
from conformance.tasks._families import UNDERSTANDING
from learning import base_of
from warmstart.config.recipe import Recipe
from warmstart.inference.predictor import open_predictor
from warmstart.models.forward import Batch, Forward
from warmstart.models.loading import load_masked
from warmstart.pipelines.multitask.prepare import prepare_tasks
from warmstart.pipelines.multitask.session import TasksSession
from warmstart.training.loop import steps
from warmstart.training.optimizer import Optimizer
from warmstart.training.settings import Train

Folder = Callable[[str], Path]
ENCODERS = tuple(name for name in UNDERSTANDING if name not in ("xlnet", "gpt2", "llama"))
STEPS = 320


def written(path: Path, rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """A folder with the rows to learn, and one other row for validation and for test each."""
    path.mkdir()
    of_key = {"text": ["late late late money", "back back order"], "tokens": [["late"], ["back"]]}
    others = [{**rows[0], key: value} for value in of_key[key]]
    if key == "tokens":
        others = [{**row, "ner_tags": ["O"]} for row in others]
    parts = {"train": rows, "validation": others[:1], "test": others[1:]}
    for split, some in parts.items():
        lines = [json.dumps(row) for row in some]
        (path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[] if f in ("roberta", "gpt2") else pytest.mark.slow)
     for f in UNDERSTANDING],
)  # fmt: skip
def test_two_tasks_over_one_body(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    tasks = {
        "mood": {"data": written(tmp_path / "mood", classification.ROWS, "text")},
        "things": {"name": "tagging", "data": written(tmp_path / "things", tagging.ROWS, "tokens")},
    }
    recipe = Recipe.of(
        {
            "base": str(tiny_of(family)),
            "task": {"name": "multitask", "tasks": tasks, "temperature": 100},
            "train": {"precision": "fp32", "batch_size": 16},
            "data.similarity": 0.0,
        }
    )
    session = TasksSession.begin(prepare_tasks(recipe))
    learn(session, tmp_path)
    outputs: dict[str, np.ndarray] = {}
    for name, one in session.each.items():
        one.forward.full_precision()
        outputs[name] = one.rows("train").predict(one.forward)
    for one in session.each.values():
        one.forward.widen_vocabulary()
    for name, one in session.each.items():
        task, examples = one.prepared.task, one.prepared.examples["train"]
        learnt = task.score(outputs[name], examples)[task.main_score]
        assert learnt >= 0.99, f"learns {name} by heart"
        one.save(tmp_path / "model" / name)
        predictor = open_predictor(tmp_path / "model" / name)
        found, _ = predictor.outputs(examples.table)
        np.testing.assert_allclose(found, outputs[name], atol=1e-4, rtol=1e-4)
        single = [predictor.outputs(examples.table.slice(i, 1))[0] for i in range(len(examples))]
        np.testing.assert_allclose(np.concatenate(single), found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ENCODERS)
def test_hidden_words_have_the_logits_of_transformers(family: str, tiny_of: Folder) -> None:
    model = load_masked(base_of(tiny_of(family)), seed=1)
    forward = Forward(model)
    forward.training = False
    ids = torch.randint(5, 40, (3, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 4, 6])
    real = torch.arange(9) < lengths[:, None]
    chosen = real & (ids % 3 == 0)
    with torch.no_grad():
        inputs = {"ids": ids, "lengths": lengths, "chosen": chosen}
        batch = Batch(inputs, ids[chosen][None], torch.tensor(3.0), np.arange(3), 19)
        found: Any = forward.forward(batch)
        wanted = model(input_ids=ids, attention_mask=real.long()).logits[chosen]
    assert found.shape[1] == chosen.sum() > 2
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-5)
    assert type(model).__name__.endswith("ForMaskedLM")


def learn(session: TasksSession, folder: Path) -> None:
    fit = session.fitting(folder, [])
    feed: Any = fit.train
    settings = Train(learning_rate=2e-3, weight_decay=0.0, warmup=0.1)
    optimizer = Optimizer(fit.model, settings, STEPS)
    epochs = range(STEPS // feed.steps_in(0))
    whole = [rows for epoch in epochs for rows in feed.plan(epoch)]
    feed.plan = lambda epoch: whole  # as one epoch: dropout is made ready for each
    feed.settings = feed.settings.model_copy(update={"epochs": None, "max_steps": len(whole)})
    for _ in steps(feed, fit.forward, optimizer, fit.objective, seed=0):
        pass
