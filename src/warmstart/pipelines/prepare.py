"""Before a weight moves: read the data, find the base, split the tokens, make every choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.config.recipe import Recipe
from warmstart.data import sampling, splitting
from warmstart.data.corpus import load_mixture
from warmstart.data.ledger import Ledger
from warmstart.data.splitting import Splits
from warmstart.data.tables import mapped
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.lost import Cut, note_unknown, usable
from warmstart.errors import DataError, RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import family_of
from warmstart.models.base import Base
from warmstart.models.checks import read_json
from warmstart.models.loading import load_tokenizer
from warmstart.objectives.base import Objective
from warmstart.pipelines.choices import check_method, fitted, for_base, resolved, rows_of
from warmstart.pipelines.pretrain.mixture import corpora_of, mix
from warmstart.pipelines.pretrain.scratch import base_of, windows_of
from warmstart.pipelines.reading.recognise import with_task
from warmstart.tasks.base import Examples, Task
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import Rows, row_sizes
from warmstart.training.precision import device_named
from warmstart.training.regularization.text import General, read_general
from warmstart.training.settings import Train

SPLITS = ("train", "validation", "test")
KEPT = ("columns", "encoding", "delimiter", "header")
"""Of how the data were read, what a saved model keeps."""


@dataclass
class Prepared:
    """Everything that is known before a weight moves; nothing has been written yet."""

    recipe: Recipe
    splits: Splits
    ledger: Ledger
    labels: list[str]
    base: Base
    examples: dict[str, Examples]
    tokenizer: Any
    rows: np.ndarray
    """The rows of train to learn from, with repeats where a class is oversampled."""
    general: General | None = None
    """The text of `forgetting.text`."""
    held: Mapping[str, Examples] = field(default_factory=dict[str, Examples])
    """The held-out documents of other corpora that are learned along."""
    late: np.ndarray | None = None
    """The rows of a pass in the decay of the learning rate, where these are others."""

    @property
    def stores(self) -> dict[str, TokenizedDataset]:
        """The token ids of each split."""
        return {name: part.store for name, part in self.examples.items()}

    @property
    def task(self) -> Task:
        return self.recipe.task  # pyright: ignore[reportReturnType]

    @property
    def method(self) -> Method:
        return self.recipe.method  # pyright: ignore[reportReturnType]

    @property
    def objective(self) -> Objective:
        return self.recipe.objective  # pyright: ignore[reportReturnType]

    @property
    def reading(self) -> Mapping[str, Any]:
        """How the rows of train were read, for the saved model to read others alike."""
        how = next(iter(self.ledger.reading.values()), {})
        kept = {key: how[key] for key in KEPT if key in how}
        return kept | {"merge_labels": self.recipe.data.merge_labels}

    def facts(self) -> dict[str, Any]:
        """What a dry run shows, and `run.json` keeps."""
        return {
            "labels": self.labels,
            "rows": {name: len(part) for name, part in self.examples.items()},
            "tokens": {name: int(store.offsets[-1]) for name, store in self.stores.items()},
            "base": {"name": self.base.name, "sha256": self.base.sha256},
            "fingerprint": self.splits.fingerprint,
            "general": self.general.fingerprint if self.general else None,
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Label → split → rows, where a row has a single label."""
        return sampling.counts(self.stores, self.labels) if self.task.head.single_label else {}

    def steps(self) -> int:
        """Steps of the whole run."""
        train, recipe = self.recipe.train, self.recipe
        if self.method.caches_features or self.task.head.gives_vectors:
            train = train.model_copy(update={"batch_tokens": None})
        store, objective = self.stores["train"], self.objective
        return planned_source(store, self.rows, objective, train, recipe.seed).length().steps


def planned_source(
    store: TokenizedDataset, rows: np.ndarray | None, objective: Any, train: Train, seed: int
) -> BatchSource:
    """The steps of a training run as they can be planned without a model."""
    sizes = Rows(row_sizes(store), torch.device("cpu"))
    return BatchSource(sizes, objective, train, seed, rows=rows)


def rows_in(folder: Path, prepared: Prepared) -> Prepared:
    """The same with the rows in a file of `folder`, out of memory."""
    tables = {name: mapped(part.table, folder) for name, part in prepared.examples.items()}
    parts = prepared.examples.items()
    examples = {name: replace(part, table=tables[name]) for name, part in parts}
    return replace(prepared, splits=replace(prepared.splits, **tables), examples=examples)


Loaded = tuple[Splits, Ledger]
"""The data of a task, read and split, and their account."""


def prepare(recipe: Recipe, source: Any = None, loaded: Loaded | None = None) -> Prepared:
    """Read and check everything: data (unless `loaded`), base, tokens, recipe. Raises
    `WarmstartError`."""
    task: Any = recipe.task
    device_named(recipe.train.device)
    if task.own_data:
        raise RecipeError(
            f"task {task.part_name()} is one run over several data sets and cannot be compared "
            "over several methods or seeds; give one of each"
        )
    if source is None and recipe.data.path is None and recipe.data.train is None:
        raise RecipeError("no data: name a file or folder, or give --data.train FILE")
    if loaded is None:
        ledger = Ledger()
        recipe = _own_task(with_task(recipe, source, ledger))
        loaded = load_splits(recipe, source, ledger=ledger)
    splits, ledger = loaded
    task = recipe.task
    base = base_of(recipe, splits, ledger)
    tokenizer = load_tokenizer(base)
    recipe = for_base(recipe, base, tokenizer)
    check_method(recipe, base)
    task = fitted(recipe, base, tokenizer, splits, ledger)
    labels = task.fit_labels(splits.train)
    task.check_base(base, labels)
    for remark in task.data_notes(splits.train):
        ledger.note("task", remark)
    examples: dict[str, Examples] = {}
    splits = usable(splits, task.usable, tokenizer, ledger)
    for name in SPLITS:
        table = getattr(splits, name)
        cut = Cut(table, ledger)
        if task.reads_documents:
            store = windows_of(task, name, table, tokenizer, base, splits.fingerprint, cut)
        else:
            store = task.encode(table, labels, tokenizer, task.max_length, cut)
        table, store = cut.left(name, table, store)
        examples[name] = Examples(table, store, labels, tokenizer)
        ledger.tokens(name, int(store.offsets[-1]) + cut.tokens, cut.tokens)
        cut.tell(name, task.max_length)
        writes = task.head.generates
        note_unknown(name, table, store, tokenizer, ledger, as_text=task.as_text, writes=writes)
    recipe, held, late = recipe.model_copy(update={"task": task}), dict[str, Examples](), None
    if splits.corpora:
        train = examples["train"]
        mixture = mix(recipe, splits, base, train, ledger, lambda table: Cut(table, ledger))
        examples["train"], rows, late, held = mixture
        store = examples["train"].store
    else:
        store = examples["train"].store
        rows = rows_of(recipe, store)
    if recipe.data.sampling != "none":
        sampling.note_sampling(store.targets, rows, labels, recipe.data.sampling, ledger)
    recipe = resolved(recipe, base, rows, store)
    if note := family_of(read_json(base.path / "config.json")).note:
        ledger.note("architecture", note)
    general = _general(recipe, splits, ledger)
    own = recipe, splits, ledger, labels, base, examples, tokenizer, rows, general, held, late
    return Prepared(*own)


def _general(recipe: Recipe, splits: Splits, ledger: Ledger) -> General | None:
    """The general text that is kept in mind, unless it is one of the corpora already."""
    keeping = recipe.forgetting
    if keeping.text is None or (splits.corpora and keeping.penalty != "ewc"):
        return None
    general = read_general(keeping.text)
    ledger.note("forgetting", general.note)
    return general


def _own_task(recipe: Recipe) -> Recipe:
    """The recipe with a task of its own: what it learns of these rows is of them alone."""
    task: Any = recipe.task
    if recipe.data.merge_labels and task.label is None:
        raise RecipeError(
            f"data.merge_labels merges the spellings of one label a row, and task "
            f"{task.part_name()} has no such label; mend the spellings in the data instead"
        )
    return recipe.model_copy(update={"task": task.model_copy()})


def load_splits(
    recipe: Recipe,
    source: Any = None,
    taken: Mapping[int, int] | None = None,
    ledger: Ledger | None = None,
) -> Loaded:
    """The data of a task, read and split. There are always rows to test on. `taken`: see
    `splitting.load`."""
    task: Any = recipe.task
    ledger = Ledger() if ledger is None else ledger
    if task.reads_documents:
        seed = recipe.seed if recipe.data.split_seed is None else recipe.data.split_seed
        corpora = corpora_of(recipe)
        return load_mixture(recipe.data, task.documents_of, seed, ledger, source, corpora), ledger
    corpora_of(recipe)
    splits = splitting.load(
        recipe.data, task.roles, set(task.roles) if task.required is None else task.required,
        recipe.seed, ledger, source, task.label,
        texts=task.texts, nested=task.nested, rows=task.rows, together=task.together,
        strata=task.strata, taken=taken,
    )  # fmt: skip
    if not len(splits.test):
        raise DataError(
            "there are no rows to test on, and a model is judged on rows it has not seen: give "
            "--data.test FILE, or a --data.test_fraction above 0"
        )
    return splits, ledger
