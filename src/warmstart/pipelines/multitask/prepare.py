"""Several tasks over one body, prepared: each task as if it were alone, then what they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from warmstart import part
from warmstart.config.recipe import Recipe
from warmstart.config.toml import toml_table
from warmstart.data import splitting
from warmstart.data.dedup.clusters import find_copies
from warmstart.data.dedup.exact import hashed, normal_texts, text_keys
from warmstart.data.dedup.leakage import near_rows
from warmstart.data.ledger import Ledger, place
from warmstart.data.readers.text import is_plain, lines_of
from warmstart.data.sampling import shares
from warmstart.data.splitting import Splits
from warmstart.data.tokens.dataset import TokenizedDataset, joined, tokenise
from warmstart.data.tokens.lost import Cut
from warmstart.errors import DataError, RecipeError
from warmstart.files import write_json
from warmstart.formatting import counted
from warmstart.models.architectures import family_of
from warmstart.models.base import Base
from warmstart.models.hf_calls import LOAD
from warmstart.models.loading import masked_class
from warmstart.pipelines.prepare import (
    SPLITS,
    Loaded,
    Prepared,
    load_splits,
    planned_source,
    prepare,
)
from warmstart.tasks.multitask import Multitask, kind_of
from warmstart.training.batches import BatchSource
from warmstart.training.settings import Train
from warmstart.training.task_mixture import TaskMixture

MANY_NEAR = 0.01
"""Share of train from which near copies of held-out rows of another task are told at once."""
TEXT = ("text", "sentence", "content", "message", "body", "document", "review", "title")


@dataclass
class Texts:
    """Token ids of texts whose hidden words are to be guessed, for train and validation."""

    stores: dict[str, TokenizedDataset]
    rows: np.ndarray
    """All of train."""
    share: float
    ledger: Ledger
    fingerprint: str


class TaskLedgers(dict[str, Ledger]):
    """Task → its ledger, as one ledger. Tokens are summed over the `labelled` tasks."""

    def __init__(self, ledgers: Mapping[str, Ledger], labelled: tuple[str, ...]) -> None:
        super().__init__(ledgers)
        self.labelled = labelled

    def note(self, kind: str, message: str) -> None:
        """See `Ledger.note`."""
        for ledger in self.values():
            ledger.note(kind, message)

    @property
    def first_remarks(self) -> list[str]:
        """See `Ledger.first_remarks`."""
        return [f"{name}: {text}" for name, ledger in self.items() for text in ledger.first_remarks]

    def summary(self) -> dict[str, Any]:
        """Reasons and notes stand under the name of their task."""
        whole: dict[str, Any] = {"dropped": {}, "notes": [], "tokens": {}}
        tokens: list[dict[str, Any]] = []
        for name, ledger in self.items():
            own = ledger.summary()
            whole["dropped"] |= {f"{name}: {why}": rows for why, rows in own["dropped"].items()}
            whole["notes"] += [n | {"message": f"{name}: {n['message']}"} for n in own["notes"]]
            tokens += [own["tokens"]] if name in self.labelled else []
        whole["tokens"] = {split: _sums([own.get(split, {}) for own in tokens]) for split in SPLITS}
        return whole

    def write(self, folder: Path) -> None:
        """Write `ledger.json`."""
        summaries = {name: ledger.summary() for name, ledger in self.items()}
        write_json(folder / "ledger.json", {"tasks": summaries})


@dataclass
class PreparedTasks:
    """Everything that is known before a weight moves; nothing has been written yet."""

    recipe: Recipe
    each: dict[str, Prepared]
    texts: dict[str, Texts]
    """The auxiliary tasks."""
    shares: dict[str, float]
    """Of the steps, by task."""
    trained: dict[str, Prepared] = field(default_factory=dict[str, Prepared])
    """Each task as its trained model settled it."""

    @property
    def task(self) -> Multitask:
        return self.recipe.task  # pyright: ignore[reportReturnType]

    @property
    def base(self) -> Base:
        return next(iter(self.each.values())).base

    @property
    def ledger(self) -> TaskLedgers:
        ledgers = {name: own.ledger for name, own in (self.each | self.texts).items()}
        return TaskLedgers(ledgers, tuple(self.each))

    def facts(self) -> dict[str, Any]:
        """What a dry run shows, and `run.json` keeps; `rows` and `tokens` are of all tasks."""
        tasks = {name: prepared.facts() for name, prepared in self.each.items()}
        stamp = "".join(facts["fingerprint"] for facts in tasks.values())
        stamp += "".join(texts.fingerprint for texts in self.texts.values())
        return {
            "labels": [],
            "rows": _sums([facts["rows"] for facts in tasks.values()]),
            "tokens": _sums([facts["tokens"] for facts in tasks.values()]),
            "base": next(iter(tasks.values()))["base"],
            "fingerprint": hashlib.sha256(stamp.encode()).hexdigest(),
            "tasks": {
                name: {key: facts[key] for key in ("labels", "rows", "tokens")}
                for name, facts in tasks.items()
            },
            "shares": {name: round(share, 6) for name, share in self.shares.items()},
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """None: the labels are those of several tasks."""
        return {}

    def steps(self) -> int:
        """Steps of the whole run."""
        train, seed = self.recipe.train, self.recipe.seed
        sources = _sources(self.recipe, self.each | self.texts, train)
        return TaskMixture(sources, self.shares, tuple(self.each), train, seed).length().steps


def prepare_tasks(recipe: Recipe, source: Any = None) -> PreparedTasks:
    """Read and check everything. Raises `WarmstartError`."""
    task: Any = recipe.task
    _check(recipe, task, source)
    each = _prepared(recipe, task)
    texts = {name: _texts(name, entry, recipe, each) for name, entry in task.masked_tasks.items()}
    parts = each | texts
    wanted = shares({name: len(parts[name].rows) for name in task.tasks}, task.temperature)
    train = _train(recipe, each, texts)
    for name, prepared in each.items():
        own = prepared.recipe.model_copy(update={"train": train})
        each[name] = replace(prepared, recipe=own)
    resolved = task.model_copy(update={"tasks": _resolved(task, each)})
    recipe = recipe.model_copy(update={"train": train, "task": resolved})
    return PreparedTasks(recipe, each, texts, wanted)


def _check(recipe: Recipe, task: Multitask, source: Any) -> None:
    """Raise `RecipeError` for what makes no sense with several tasks."""
    method: Any = recipe.method
    if len(task.tasks) < 2 or not task.labelled_tasks:
        raise RecipeError(
            "task multitask needs at least two tasks, one of them with labels: give each a table "
            "[task.tasks.NAME] with name and data in a recipe file"
        )
    data = recipe.data
    if source is not None or data.path or data.train or data.validation or data.test:
        raise RecipeError(
            "task multitask reads the data of each task: leave the common data out, and give "
            "task.tasks.NAME.data"
        )
    if data.columns or data.group or data.corrections:
        key = next(key for key in ("columns", "group", "corrections") if getattr(data, key))
        own = "; give task.tasks.NAME.columns" if key == "columns" else ""
        raise RecipeError(f"data.{key} is not for several data sets at once{own}")
    if recipe.forgetting.acts or recipe.forgetting.text:
        raise RecipeError("forgetting.* holds a single task to its base, not several; leave it out")
    if method.caches_features:
        raise RecipeError(
            f"method {method.part_name()} leaves the body as it is, so that the tasks would share "
            "nothing that learns; take full, partial or lora"
        )
    if method.extra_tokens:
        raise RecipeError(
            f"method {method.part_name()} puts virtual tokens before the text, which several "
            "tasks cannot share yet; take full, partial, lora or adapter"
        )


def _prepared(recipe: Recipe, task: Multitask) -> dict[str, Prepared]:
    """Each of the tasks as if it were the only one, but that all are cut alike: a text stands on
    one side in all of them, and none is trained on that another is judged by."""
    recipes = {name: _alone(recipe, task, name) for name in task.labelled_tasks}
    loaded: dict[str, Loaded] = {}
    taken: dict[int, int] = {}
    for name, own in recipes.items():
        with _named(name):
            loaded[name] = load_splits(own, taken=taken)
        for split, side in splitting.SIDES.items():
            table = getattr(loaded[name][0], split)
            keys = text_keys(table, [role for role in _roles(own) if role in table.column_names])
            taken |= {key: side for key in keys.tolist() if key not in taken}
    each: dict[str, Prepared] = {}
    for name, own in recipes.items():
        splits, ledger = loaded[name]
        others = {other: (recipes[other], loaded[other][0]) for other in loaded if other != name}
        with _named(name):
            splits = replace(splits, train=_kept(splits.train, _roles(own), others, ledger))
            each[name] = prepare(own, loaded=(splits, ledger))
        ledger.note("task", "Trained together with other tasks over one body.")
        if not _fits(recipe, task, name):
            ledger.note(
                "task", "objective.* is for single labels: this task learns by its usual loss."
            )
    return each


def _alone(recipe: Recipe, task: Multitask, name: str) -> Recipe:
    """The recipe of one of the tasks by itself."""
    alone = {
        **recipe.model_dump(exclude={"task", "objective", "method", "data"}),
        "task": task.settings_of(name),
        "data": {**recipe.data.model_dump(exclude_unset=True), **_place(task.tasks[name])},
        "method": recipe.method,
        **({"objective": recipe.objective} if _fits(recipe, task, name) else {}),
    }
    with _named(name):
        return Recipe.of(alone)


def _fits(recipe: Recipe, task: Multitask, name: str) -> bool:
    """Whether a task can learn by the objective of the run."""
    kind: Any = part.find("task", kind_of(task.tasks[name]))
    usual: Any = recipe.objective
    return kind.head.name in usual.heads


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors inside say of which task they are."""
    try:
        yield
    except (RecipeError, DataError) as error:
        raise type(error)(f"task.tasks.{name}: {error}") from error


def _roles(recipe: Recipe) -> Sequence[str]:
    """The columns of a task's texts."""
    task: Any = recipe.task
    return task.texts


def _kept(
    train: pa.Table,
    roles: Sequence[str],
    others: Mapping[str, tuple[Recipe, Splits]],
    ledger: Ledger,
) -> pa.Table:
    """The rows of train of which no text stands in the validation or test rows of other tasks.
    Those that nearly repeat one are noted, or go too, as `data.near_copies` says."""
    for name, (recipe, splits) in others.items():
        held = [
            normal_texts(table, [role])
            for table in (splits.test, splits.validation)
            for role in _roles(recipe)
            if role in table.column_names
        ]
        own = [normal_texts(train, [role]) for role in roles if role in train.column_names]
        known = np.concatenate([hashed(texts) for texts in held])
        shared = np.zeros(len(train), bool)
        for texts in own:
            shared |= np.isin(hashed(texts), known)
        near = _near(own, held, recipe.data.similarity) & ~shared
        drops = recipe.data.near_copies == "drop"
        where = f"in validation or test of task {name}"
        ledger.drop_rows(train, shared, f"also {where}", "train")
        if near.any() and drops:
            ledger.drop_rows(train, near, f"nearly {where}", "train")
        elif near.any():
            first = place(train, int(near.argmax()))
            ledger.note(
                "leakage",
                f"{counted(int(near.sum()))} of train ({near.mean():.1%}) nearly repeat a text "
                f"{where} (first: {first}), whose score may flatter; they are kept, and go with "
                "--data.near_copies drop",
                loud=bool(near.mean() >= MANY_NEAR),
                near=True,
            )
        train = train.filter(pa.array(~(shared | near) if drops else ~shared))
    if not len(train):
        raise DataError(
            "every row of train is also in validation or test of another task; give other rows, or "
            "the same splits to both"
        )
    return train


def _near(
    own: Sequence[pa.ChunkedArray], held: Sequence[pa.ChunkedArray], similarity: float
) -> np.ndarray:
    """Which rows nearly repeat a text that is held out, bool [n]; `own` are their texts, one [n]
    for each column."""
    parts = dict[str, pa.Table]()
    for split, columns in (("train", own), ("test", held)):
        chunks = [chunk for texts in columns for chunk in texts.chunks]
        parts[split] = pa.table({"text": pa.chunked_array(chunks, pa.large_string())})
    rows = near_rows(find_copies(parts, ("text",), similarity), "train", "test")
    return np.asarray(rows.reshape(len(own), -1).any(axis=0))


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Where the data of a task stand: path and columns, as keys of `data`."""
    return {"path": str(entry["data"]), "columns": dict(entry.get("columns", {}))}


def _texts(
    name: str, entry: Mapping[str, Any], recipe: Recipe, each: Mapping[str, Prepared]
) -> Texts:
    """The texts of one auxiliary task: a file's, or those that the other tasks read."""
    first, where = next(iter(each.values())), f"task.tasks.{name}"
    _check_masked(where, first)
    ledger, stamp = Ledger(), ""
    if entry.get("data"):
        stores, stamp = _texts_of_file(where, entry, recipe, each, ledger)
    else:
        stores = {
            split: joined([prepared.stores[split] for prepared in each.values()])
            for split in ("train", "validation")
        }
        ledger.note("task", "The texts are those that the other tasks train on.")
    if not all(len(store) for store in stores.values()):
        raise DataError(
            f"{where}: there are no texts for validation; give data.validation_fraction"
        )
    rows, share = np.arange(len(stores["train"])), float(entry.get("share", 0.15))
    return Texts(stores, rows, share, ledger, stamp)


def _check_masked(where: str, prepared: Prepared) -> None:
    """Raise `RecipeError` where the base cannot guess masked words, before anything is written."""
    from transformers import AutoConfig

    if prepared.tokenizer.mask_token_id is None:
        raise RecipeError(f"{where}: the base's tokenizer has no mask token; leave mlm out")
    config: Any = AutoConfig.from_pretrained(prepared.base.path, **LOAD)
    if masked_class(config) is None:
        name = family_of(config).name
        raise RecipeError(
            f"{where}: mlm needs an encoder that guesses masked words, and '{name}' is none; leave "
            "this task out, or take a base such as minilm, bert or roberta"
        )


def _texts_of_file(
    where: str,
    entry: Mapping[str, Any],
    recipe: Recipe,
    each: Mapping[str, Prepared],
    ledger: Ledger,
) -> tuple[dict[str, TokenizedDataset], str]:
    """The texts of a file, split, and what tells whether they have changed."""
    settings = recipe.data.model_copy(update={**_place(entry), "test_fraction": 0.0})
    path, task = Path(str(entry["data"])), cast("Multitask", recipe.task)
    tokenizer = next(iter(each.values())).tokenizer
    longest = min(int(entry.get("max_length", task.max_length)), tokenizer.model_max_length)
    try:
        lines = lines_of(path).select(["text"]) if is_plain(path) else None
        splits = splitting.load(
            settings, {"text": TEXT}, {"text"}, recipe.seed, ledger, lines,
            label=None, texts=("text",),
        )  # fmt: skip
        others = {name: (own.recipe, own.splits) for name, own in each.items()}
        splits = replace(splits, train=_kept(splits.train, ("text",), others, ledger))
    except (DataError, RecipeError) as error:
        raise type(error)(f"{where}: {error}") from error
    stores: dict[str, TokenizedDataset] = {}
    for split in ("train", "validation"):
        table = getattr(splits, split)
        cut = Cut(table, ledger)
        stores[split] = tokenise(table["text"], tokenizer.backend_tokenizer, longest, cut)
        ledger.tokens(split, int(stores[split].offsets[-1]) + cut.tokens, cut.tokens)
    return stores, splits.fingerprint


def _sources(
    recipe: Recipe, parts: Mapping[str, Prepared | Texts], train: Train
) -> dict[str, BatchSource]:
    """The batches of each task as they can be planned without a model."""
    task: Any = recipe.task
    return {
        name: planned_source(
            parts[name].stores["train"], parts[name].rows, recipe.objective, train, recipe.seed
        )
        for name in task.tasks
    }


def _train(recipe: Recipe, each: dict[str, Prepared], texts: dict[str, Texts]) -> Train:
    """One set of choices for the run: the smallest rate and batch that a task would have taken,
    and as many epochs as give each run enough steps."""
    method: Any = recipe.method
    own = recipe.train
    alone = [prepared.recipe.train for prepared in each.values()]
    rate = min(train.learning_rate or 0.0 for train in alone)
    size = min(train.batch_size or 1 for train in alone)
    train = alone[0].model_copy(update={"learning_rate": rate, "batch_size": size})
    sources = _sources(recipe, each | texts, train).values()
    steps = sum(source.steps_in(0) for source in sources)
    fewest, most = method.epochs_between
    wanted = -(-method.steps_wanted * len(each) // steps)
    epochs = own.epochs or min(most, max(fewest, wanted))
    if own.max_steps or own.tokens:
        tokens = sum(int(source.dataset.sizes.sum()) for source in sources)
        epochs = -(-own.max_steps // steps) if own.max_steps else -(-(own.tokens or 0) // tokens)
    patience = max(3, epochs // 4) if own.patience is None else own.patience
    chosen = None if own.max_steps or own.tokens else epochs
    return train.model_copy(update={"epochs": chosen, "patience": patience})


def _resolved(task: Multitask, each: Mapping[str, Prepared]) -> dict[str, dict[str, Any]]:
    """The entries with every setting of their tasks."""
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in task.tasks.items():
        plain = {**entry, "data": str(entry["data"])} if "data" in entry else dict(entry)
        kind = each[name].task if name in each else None
        own = {"name": kind.part_name(), **toml_table(kind)} if kind else {}
        weight = {"weight": task.weight_of(name)} if "weight" in entry else {}
        entries[name] = {**plain, **own, **weight}
    return entries


def _sums(tables: list[dict[str, int]]) -> dict[str, int]:
    """Several counts as one."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: sum(table.get(key, 0) for table in tables) for key in keys}
