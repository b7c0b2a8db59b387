"""Every task on every family that can do it, with tiny random models.

Each file in `tasks/` beside this one is one task under its name, a handful of constants:

    FAMILIES   the families that do it: UNDERSTANDING or WRITING of `tasks/_families.py`
    ROWS       six to ten raw rows as dicts, of unequal lengths, that can be learnt by heart
    OTHER      the same rows with other targets, or none where the target is no column
    SETTINGS   settings of the task                               (optional)
    STEPS, RATE   how long and how fast to learn ROWS by heart    (optional)
    ENOUGH     the main figure that is by heart, 0.99 unless said (optional)
    perfect(task, examples) -> outputs that give all the right answers  (only where the head's
               form says not enough: see `outputs_of_targets`)

A task is added by adding its file and its line in SIZES.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from learning import base_of, grads_of
from warmstart import part as parts
from warmstart.config.recipe import Recipe
from warmstart.data.columns import map_roles
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.inference.predictor import open_predictor, own_form
from warmstart.models.checks import read_json
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.prepare import Prepared, load_splits
from warmstart.pipelines.session import Session
from warmstart.tasks.base import Examples, Task
from warmstart.training.loop import compute_gradients, steps
from warmstart.training.optimizer import Optimizer
from warmstart.training.settings import Train

Folder = Callable[[str], Path]
BUILDERS = Path(__file__).parent / "tasks"
SIZES = {
    "classification": 8,
    "tagging": 8,
    "extractive_qa": 8,
    "pairs": 8,
    "multilabel": 8,
    "regression": 8,
    "summarization": 5,
    "translation": 5,
    "text2text": 5,
    "few_shot": 8,
    "embedding": 8,
    "custom": 8,
}
"""Task → families. One line a task."""
ELSEWHERE = {"multitask", "choice", "language_model", "chat", "preference", "reward", "prompts"}
"""Has no rows of its own (see test_multitask_family.py), trains nothing (test_choice.py), has no
labels (test_pretrain.py, test_pretrained_families.py), or is learned from conversations,
preferences and rewards (test_chat.py, test_align.py, test_pairs.py, test_rollouts.py)."""
LONGEST = 60


@cache
def builder(name: str) -> ModuleType:
    """The constants of a task."""
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", BUILDERS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = sorted(path.stem for path in BUILDERS.glob("*.py") if path.stem[0] != "_")
CELLS = [(name, family) for name in NAMES for family in builder(name).FAMILIES]


def quick(name: str, family: str) -> bool:
    """Two families of each task, other ones from task to task, are tried whenever tests are run."""
    families = builder(name).FAMILIES
    first = NAMES.index(name)
    return family in (families[(first + more) % len(families)] for more in (0, len(families) // 2))


MARKED = [pytest.param(*cell, marks=[] if quick(*cell) else pytest.mark.slow) for cell in CELLS]


def test_the_size_of_the_matrix() -> None:
    assert {name: len(builder(name).FAMILIES) for name in NAMES} == SIZES
    assert set(NAMES) == set(parts.names("task")) - ELSEWHERE, "a task without conformance"
    assert len(CELLS) == len(set(CELLS)) == sum(SIZES.values())


@dataclass
class Case:
    """A task on a tiny model."""

    name: str
    family: str
    folder: Path

    @property
    def made(self) -> ModuleType:
        return builder(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        return {"max_length": LONGEST, **getattr(self.made, "SETTINGS", {})}

    @property
    def task(self) -> Any:
        made: Any = parts.make("task", self.name, self.settings)
        return made.resolve_for_base(read_json(self.folder / "config.json"), LONGEST)

    def table(self, rows: Sequence[Mapping[str, Any]], *, targets: bool = True) -> pa.Table:
        """Raw rows as the task sees them, with or without the columns of the targets."""
        task = self.task
        roles = task.roles if targets else {role: task.roles[role] for role in task.inputs}
        needed = set(roles) if task.required is None else set(roles) & task.required
        raw = read(list(rows), ledger=Ledger())
        return own_form(task, map_roles(raw, roles, {}, needed, task.nested))

    def examples(
        self, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *, targets: bool = True
    ) -> Examples:
        tokenizer = load_tokenizer(base_of(self.folder))
        table = self.table(rows, targets=targets)
        store = self.task.encode(table, labels, tokenizer, LONGEST)
        return Examples(table, store, labels, tokenizer)

    def session(self) -> Session:
        """A model that has learnt ROWS, all of them in one batch."""
        session = self.begun()
        self.learn(session)
        return session

    def begun(self) -> Session:
        """A model that is to learn ROWS."""
        rows = self.made.ROWS
        labels = self.task.fit_labels(self.table(rows))
        found = self.examples(rows, labels)
        recipe = Recipe.of(
            {
                "task": self.task,
                "base": str(self.folder),
                "train": {"precision": "fp32", "batch_size": len(found.store)},
            }
        )
        examples = {"train": found, "validation": found, "test": found}
        nothing: Any = None
        return Session.begin(
            Prepared(
                recipe, nothing, Ledger(), labels, base_of(self.folder), examples,
                found.tokenizer, np.arange(len(found.store)),
            )
        )  # fmt: skip

    def learn(self, session: Session) -> None:
        count = getattr(self.made, "STEPS", 80)
        source: Any = session.source("train")
        whole = source.plan(0)
        source.plan = lambda epoch: whole * count
        source.settings = source.settings.model_copy(update={"epochs": None, "max_steps": count})
        rate = getattr(self.made, "RATE", 3e-3)
        settings = Train(learning_rate=rate, weight_decay=0.0, warmup=0.1)
        optimizer = Optimizer(session.model, settings, count)
        for _ in steps(source, session.forward, optimizer, session.objective, seed=0):
            pass


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "family"), MARKED)
def test_task_on_family(name: str, family: str, tiny_of: Folder, tmp_path: Path) -> None:
    it = Case(name, family, tiny_of(family))
    rows, task = it.made.ROWS, it.task
    session = it.session()
    examples = session.prepared.examples["train"]

    outputs = session.predict()["test"]
    learnt = task.score(outputs, examples)[task.main_score]
    assert learnt >= getattr(it.made, "ENOUGH", 0.99), "learns one batch by heart"

    session.save(tmp_path / "model")
    predictor = open_predictor(tmp_path / "model")
    table = it.table(rows)
    again, found = predictor.outputs(table)
    assert_same(again, outputs, "saved = loaded")
    answers = [(one.value, one.id) for one in predictor.task.decode(again, found)]
    assert len(answers) == len(table) == len(rows)

    alone = [predictor.outputs(table.slice(i, 1))[0] for i in range(len(table))]
    assert_same(joined(alone), again, "padding changes nothing")

    bare, _ = predictor.outputs(it.table(rows, targets=False))
    assert_same(bare, again, "target unread: without it")
    if getattr(it.made, "OTHER", None):
        unread, _ = predictor.outputs(it.table(it.made.OTHER))
        assert_same(unread, again, "target unread: with another")
    perfect_predictions_score_one(it, task, examples)


@pytest.mark.parametrize(("name", "family"), MARKED)
def test_micro_batches_are_exact(name: str, family: str, tiny_of: Folder) -> None:
    """A step in small parts of unequal size has the loss and the gradient of the whole."""
    session = Case(name, family, tiny_of(family)).begun()
    session.forward.without_dropout()
    source = session.source("train")
    rows = np.arange(len(source))
    losses: list[torch.Tensor] = []
    gradients: list[dict[str, torch.Tensor]] = []
    for tokens in (10_000, 16):
        source.settings = source.settings.model_copy(update={"micro_batch_tokens": tokens})
        session.forward.begin_epoch(0)
        session.forward.begin_step(0)
        batches = source.batches(rows, np.random.default_rng(0))
        loss, _, _ = compute_gradients(session.objective, session.forward, batches)
        losses.append(loss)
        gradients.append(grads_of(session.model))
        session.forward.after_step()
    assert len(batches) > 1 or source.dataset.undivided
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)
    assert gradients[0].keys() == gradients[1].keys()
    for weights, gradient in gradients[0].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            gradients[1][weights], gradient, rtol=0, atol=1e-5 * scale + 1e-7, msg=weights
        )


def perfect_predictions_score_one(it: Case, task: Task, examples: Examples) -> None:
    make = getattr(it.made, "perfect", outputs_of_targets)
    right = make(task, examples)
    score = task.score(right, examples)[task.main_score]
    if task.head.single_label:
        assert score == pytest.approx(1)
        return
    of = {"train": examples, "validation": examples, "test": examples}
    outputs = {"test": right, "validation": right}
    result = task.evaluate(outputs, of)
    total = result.measure.total(result.statistics)[task.main_score]
    assert total == pytest.approx(result.measure.highest(task.main_score) or 1.0)
    assert score == pytest.approx(total), "the same figure during training and after"
    assert not result.mistakes
    assert len(result.table) == len(examples)


def outputs_of_targets(task: Task, examples: Examples) -> Any:
    """What the head would have to give for every answer to be right."""
    targets, form = examples.store.targets, task.head.name
    if form == "labels":
        return np.where(targets > 0, 20.0, -20.0).astype(np.float32)
    if form == "value":
        return targets.reshape(-1, 1).astype(np.float32)
    if form == "span":
        outputs = np.zeros((len(examples.store.ids), 2), np.float32)
        for begin, place in zip(examples.store.offsets, targets, strict=False):
            outputs[begin + place, [0, 1]] = 20.0
        return outputs
    outputs = np.zeros((len(targets), len(examples.labels)), np.float32)
    real = np.flatnonzero(targets >= 0)
    outputs[real, targets[real]] = 20.0
    return outputs


def joined(found: Sequence[Any]) -> Any:
    """The outputs of rows asked one by one, as if asked together."""
    if isinstance(found[0], np.ndarray):
        return np.concatenate(found)
    return [one for part in found for one in part]


def assert_same(found: Any, wanted: Any, what: str) -> None:
    if isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4, err_msg=what)
    else:
        assert list(found) == list(wanted), what


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_group_count_as_one_in_every_task(name: str) -> None:
    """What `data.group` says reaches the test rows, by which intervals and tests are made."""
    made = builder(name)
    first, *train, last = ({**row, "author": "Ann"} for row in made.ROWS)
    settings = {"name": name, **getattr(made, "SETTINGS", {})}
    recipe = Recipe.of({"task": settings, "data.group": "author", "data.validation_fraction": 0})
    splits, _ = load_splits(recipe, {"train": train, "test": [first, last]})
    assert splits.test["_unit"].to_pylist() == [0, 0]
