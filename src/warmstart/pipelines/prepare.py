"""Before a weight moves: read the data, find the base, split the tokens, make every choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from warmstart.config.keys import part_table
from warmstart.config.recipe import Recipe
from warmstart.data import sampling, splitting
from warmstart.data.corpus import load_mixture
from warmstart.data.ledger import Ledger
from warmstart.data.splitting import Splits
from warmstart.data.tables import mapped
from warmstart.data.tokens.batching import plan
from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.data.tokens.lost import Cut, note_unknown, usable
from warmstart.errors import DataError, RecipeError
from warmstart.methods.base import Method
from warmstart.models.architectures import FLOAT32_ONLY, family_of, skeleton, width_of
from warmstart.models.base import Base
from warmstart.models.checks import read_json
from warmstart.models.loading import check_output_matrix, load_tokenizer
from warmstart.objectives.base import Objective
from warmstart.pipelines.pretrain.mixture import corpora_of, mix
from warmstart.pipelines.pretrain.scratch import base_of, windows_of
from warmstart.pipelines.reading.recognise import with_task
from warmstart.tasks.base import Examples, Task
from warmstart.training.batches import BatchSource
from warmstart.training.datasets import Rows, row_sizes
from warmstart.training.precision import choose, device_named
from warmstart.training.regularization.text import General, read_general
from warmstart.training.settings import Train

CLASS_STEPS = 60
"""Steps that each class wants: 77 classes need twice the passes that 4 do (bench/scores.py)."""
USUAL_WIDTH = 768
"""Of the layers of a base whose config names no width."""


def _resolved(recipe: Recipe, base: Base, rows: np.ndarray, store: TokenizedDataset) -> Recipe:
    """The recipe with every open choice made, so that it repeats the run wherever it is read."""
    method: Any = recipe.method
    task: Any = recipe.task
    train, config = recipe.train, read_json(base.path / "config.json")
    width = width_of(config) or USUAL_WIDTH
    batch = train.batch_size or task.default_batch or method.default_batch_size
    one_state = not task.head.per_token
    cached = method.caches_features and bool(family_of(config).post_norm_block) and one_state
    if train.batch_tokens and not cached:
        steps = len(plan(store.sizes[rows], batch, recipe.seed, 0, train.batch_tokens))
    else:
        steps = -(-len(rows) // batch)
    pace = method if cached or not method.caches_features else Method
    classes = len(np.unique(store.targets)) if task.head.single_label and not cached else 0
    fewest, most = pace.epochs_between
    wanted = -(-max(pace.steps_wanted, CLASS_STEPS * classes) // steps)
    usual = task.default_epochs or min(most, max(fewest, task.min_epochs, wanted))
    epochs = train.epochs or usual
    if train.max_steps or train.tokens:
        tokens = int(row_sizes(store)[rows].sum())
        passes = (train.max_steps or 0) / steps + (train.tokens or 0) / max(tokens, 1)
        epochs = math.ceil(passes)
    device = device_named(train.device)
    wanted_type = train.precision
    if wanted_type == "auto" and config.get("model_type") in FLOAT32_ONLY:
        wanted_type = "fp32"
    precision = "bf16" if "bfloat16" in str(choose(wanted_type, device)) else "fp32"
    chosen = {
        "epochs": None if train.max_steps or train.tokens else epochs,
        "patience": max(3, epochs // 4) if train.patience is None else train.patience,
        "batch_size": batch,
        "learning_rate": train.learning_rate or task.default_rate(method, width),
        "precision": precision,
        "device": device.type,
    }
    return recipe.model_copy(update={"train": train.model_copy(update=chosen)})


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
        if not self.task.head.single_label:
            return {}
        k = len(self.labels)
        numbers = {n: np.bincount(own.targets, minlength=k) for n, own in self.stores.items()}
        return {
            label: {name: int(counts[i]) for name, counts in numbers.items()}
            for i, label in enumerate(self.labels)
        }

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
    recipe = _for_base(recipe, base, tokenizer)
    _check_method(recipe, base)
    task = _fitted(recipe, base, tokenizer, splits)
    labels = task.fit_labels(splits.train)
    task.check_base(base, labels)
    for remark in task.data_notes(splits.train):
        ledger.note("task", remark)
    examples: dict[str, Examples] = {}
    read = {name: getattr(splits, name) for name in SPLITS}
    splits = replace(splits, **usable(read, task.usable, tokenizer, ledger))
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
    recipe, held = recipe.model_copy(update={"task": task}), dict[str, Examples]()
    if splits.corpora:
        train = examples["train"]
        mixture = mix(recipe, splits, base, train, ledger, lambda table: Cut(table, ledger))
        examples["train"], rows, held = mixture
        store = examples["train"].store
    else:
        store = examples["train"].store
        rows = _rows(recipe, store)
    if recipe.data.sampling != "none":
        sampling.note_sampling(store.targets, rows, labels, recipe.data.sampling, ledger)
    recipe = _resolved(recipe, base, rows, store)
    if note := family_of(read_json(base.path / "config.json")).note:
        ledger.note("architecture", note)
    general = _general(recipe, splits, ledger)
    return Prepared(recipe, splits, ledger, labels, base, examples, tokenizer, rows, general, held)


def _general(recipe: Recipe, splits: Splits, ledger: Ledger) -> General | None:
    """The general text that is kept in mind, unless it is one of the corpora already."""
    keeping = recipe.forgetting
    if keeping.text is None or (splits.corpora and keeping.penalty != "ewc"):
        return None
    general = read_general(keeping.text)
    ledger.note("forgetting", general.note)
    return general


def prepare_again(prepared: Prepared, recipe: Recipe) -> Prepared | None:
    """The same rows and tokens for a recipe that differs in method and seed alone.

    None where that method has room for fewer tokens, so that they have to be split anew.
    """
    base, store = prepared.base, prepared.stores["train"]
    if recipe.scratch.architecture is not None:  # which begins as the seed says
        base = base_of(recipe, prepared.splits, prepared.ledger)
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = prepared.tokenizer.chat_template
    _check_method(recipe, base)
    wanted: Any = recipe.task
    recipe = recipe.model_copy(update={"task": wanted.as_read_by(prepared.task)})
    task = _fitted(recipe, base, tokenizer, prepared.splits)
    if task.max_length != prepared.task.max_length:
        return None
    recipe = recipe.model_copy(update={"task": task})
    rows = prepared.rows if prepared.held else _rows(recipe, store)
    recipe = _resolved(recipe, base, rows, store)
    return replace(prepared, recipe=recipe, base=base, tokenizer=tokenizer, rows=rows)


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


def _for_base(recipe: Recipe, base: Base, tokenizer: Any) -> Recipe:
    """The recipe with what an objective without labels settles. Raises `RecipeError` where it does
    not go with the base."""
    objective: Any = recipe.objective
    task: Any = recipe.task
    if not task.head.predicts_itself:
        return recipe
    config = read_json(base.path / "config.json")
    objective.check_base(config, family_of(config).kind, tokenizer)
    own = {key: value for key, value in part_table(objective).items() if value is not None}
    settled: dict[str, Any] = {"trained_by": own}
    if task.reads_documents:
        settled["covers_text"] = objective.covers_text and task.long == "split"
    return recipe.model_copy(update={"task": task.model_copy(update=settled)})


def _check_method(recipe: Recipe, base: Base) -> None:
    """Raise `RecipeError` where the method does not go with the base, before anything has been
    written."""
    method: Any = recipe.method
    task: Any = recipe.task
    task.check(method)
    config = read_json(base.path / "config.json")
    rank, width = getattr(method, "rank", 0), width_of(config)
    if rank > width > 0:  # a change of higher rank than the matrices that it changes
        raise RecipeError(
            f"method.rank = {rank:,}: the layers of the base are {width:,} wide, and no change of "
            "their matrices has a higher rank; give less, as in 16, or take --method full"
        )
    writes = task.head.generates
    if writes and family_of(config).kind == "encoder":
        raise RecipeError(
            f"task {task.part_name()} writes texts, and '{config['model_type']}' is an encoder, "
            "which cannot; take a --base that is an encoder-decoder (T5, BART, PEGASUS) or a "
            "decoder (GPT-2, Llama, Qwen)"
        )
    if writes or type(method).check is not Method.check:
        itself = task.head.predicts_itself and family_of(config).kind != "encoder"
        frame = skeleton(config, writes=writes or itself)
        method.check(frame)
        if writes:
            check_output_matrix(frame, base)


def _fitted(recipe: Recipe, base: Base, tokenizer: Any, splits: Splits) -> Task:
    """The task as the base and the training rows settle it, its texts as long as there is room."""
    task: Any = recipe.task
    method: Any = recipe.method
    room = tokenizer.model_max_length - method.extra_tokens
    task = task.resolve_for_base(read_json(base.path / "config.json"), room)
    task = task.resolve_for_data(splits.train)
    return task.model_copy(update={"max_length": min(task.max_length, room)})


def _rows(recipe: Recipe, store: TokenizedDataset) -> np.ndarray:
    """The rows of train to learn from."""
    if recipe.data.sampling == "none":
        return store.taught
    task: Any = recipe.task
    if not task.head.single_label:
        raise RecipeError(
            f"data.sampling evens out classes, and the rows of task {task.part_name()} have no "
            "single class; leave it at none"
        )
    return sampling.resample(store.targets, recipe.data.sampling, recipe.seed)
