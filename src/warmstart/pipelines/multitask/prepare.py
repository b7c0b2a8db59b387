"""Several tasks over one body, prepared: each task as if it were alone, then what they share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from warmstart import part as parts
from warmstart.config.recipe import Recipe
from warmstart.config.toml import toml_table
from warmstart.errors import DataError, RecipeError
from warmstart.pipelines.multitask.texts import Texts, texts_of
from warmstart.pipelines.prepare import SPLITS, Prepared, prepare
from warmstart.tasks.multitask import kind_of

if TYPE_CHECKING:
    from warmstart.models.base import Base
    from warmstart.tasks.multitask import Multitask
    from warmstart.training.settings import Train


@dataclass
class PreparedTasks:
    """Everything that is known before a weight moves; nothing has been written yet."""

    recipe: Recipe
    each: dict[str, Prepared]
    texts: dict[str, Texts]
    """The auxiliary tasks."""
    shares: dict[str, float]
    """Of the steps, by task."""

    @property
    def task(self) -> Multitask:
        return self.recipe.task  # pyright: ignore[reportReturnType]

    @property
    def base(self) -> Base:
        return next(iter(self.each.values())).base

    def facts(self) -> dict[str, Any]:
        """What a dry run shows, and `run.json` keeps; `rows` and `tokens` are of all tasks."""
        tasks = {name: one.facts() for name, one in self.each.items()}
        stamp = "".join(one["fingerprint"] for one in tasks.values())
        stamp += "".join(one.fingerprint for one in self.texts.values())
        return {
            "labels": [],
            "rows": _sums([one["rows"] for one in tasks.values()]),
            "tokens": _sums([one["tokens"] for one in tasks.values()]),
            "base": next(iter(tasks.values()))["base"],
            "fingerprint": hashlib.sha256(stamp.encode()).hexdigest(),
            "tasks": {
                name: {key: one[key] for key in ("labels", "rows", "tokens")}
                for name, one in tasks.items()
            },
            "shares": {name: round(share, 6) for name, share in self.shares.items()},
        }

    def ledger(self) -> dict[str, Any]:
        """The ledgers of all tasks in one, reasons and notes under the name of their task."""
        found: dict[str, Any] = {"dropped": {}, "notes": [], "tokens": {}}
        for name, summary in self.ledgers().items():
            found["dropped"] |= {f"{name}: {why}": one for why, one in summary["dropped"].items()}
            found["notes"] += [
                {**note, "message": f"{name}: {note['message']}"} for note in summary["notes"]
            ]
        parts = [one.ledger.summary()["tokens"] for one in self.each.values()]
        found["tokens"] = {split: _sums([one.get(split, {}) for one in parts]) for split in SPLITS}
        return found

    def ledgers(self) -> dict[str, dict[str, Any]]:
        """Task → its ledger."""
        parts = {name: one.ledger for name, one in self.each.items()}
        parts |= {name: one.ledger for name, one in self.texts.items()}
        return {name: ledger.summary() for name, ledger in parts.items()}

    def steps(self) -> int:
        """Steps of the whole run."""
        import torch

        from warmstart.training.batches import BatchSource
        from warmstart.training.datasets import Rows, row_sizes
        from warmstart.training.task_mixture import TaskMixture

        train, seed, device = self.recipe.train, self.recipe.seed, torch.device("cpu")
        parts: dict[str, Any] = {n: (one.stores["train"], one.rows) for n, one in self.each.items()}
        parts |= {name: (one.stores["train"], None) for name, one in self.texts.items()}
        objective: Any = self.recipe.objective
        sources = {
            name: BatchSource(
                Rows(row_sizes(parts[name][0]), device), objective, train, rows=parts[name][1]
            )
            for name in self.task.tasks
        }
        mixture = TaskMixture(sources, self.shares, tuple(self.each), train, seed)
        return mixture.length().steps


def prepare_tasks(recipe: Recipe, source: Any = None) -> PreparedTasks:
    """Read and check everything. Raises `WarmstartError`."""
    from warmstart.data.sampling import shares

    task: Any = recipe.task
    _check(recipe, task, source)
    each = {name: _prepared(recipe, task, name) for name in task.labelled_tasks}
    texts = {name: texts_of(name, entry, recipe, each) for name, entry in task.masked_tasks.items()}
    rows = {name: len(one.rows) for name, one in each.items()}
    rows |= {name: len(one.stores["train"]) for name, one in texts.items()}
    wanted = shares({name: rows[name] for name in task.tasks}, task.temperature)
    train = _train(recipe, each, texts)
    each = {name: _under(one, train) for name, one in each.items()}
    resolved = task.model_copy(update={"tasks": _resolved(task, each)})
    recipe = recipe.model_copy(update={"train": train, "task": resolved})
    return PreparedTasks(recipe, each, texts, wanted)


def rehearse_tasks(recipe: Recipe, source: Any = None) -> dict[str, Any]:
    """What a dry run shows; nothing is written."""
    prepared = prepare_tasks(recipe, source)
    return {
        **prepared.facts(),
        "counts": {},
        "steps": prepared.steps(),
        "ledger": prepared.ledger(),
        "recipe": prepared.recipe,
    }


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


def _prepared(recipe: Recipe, task: Multitask, name: str) -> Prepared:
    """One of the tasks as if it were the only one."""
    entry, objective = task.tasks[name], recipe.objective
    kind: Any = parts.find("task", kind_of(entry))
    usual: Any = objective
    fits = kind.head.name in usual.heads
    asked = {
        **recipe.model_dump(exclude={"task", "objective", "method", "data"}),
        "task": task.settings_of(name),
        "data": _data(recipe, entry),
        "method": recipe.method,
        **({"objective": objective} if fits else {}),
    }
    try:
        alone = Recipe.of(asked)
        prepared = prepare(alone)
    except (RecipeError, DataError) as error:
        raise type(error)(f"task.tasks.{name}: {error}") from error
    prepared.ledger.note("task", "Trained together with other tasks over one body.")
    if not fits:
        prepared.ledger.note(
            "task", "objective.* is for single labels: this task learns by its usual loss."
        )
    return prepared


def _data(recipe: Recipe, entry: dict[str, Any]) -> dict[str, Any]:
    """The settings of the data, for one task."""
    common = recipe.data.model_dump(exclude_unset=True)
    return {**common, "path": str(entry["data"]), "columns": dict(entry.get("columns", {}))}


def _train(recipe: Recipe, each: dict[str, Prepared], texts: dict[str, Texts]) -> Train:
    """One set of choices for the run: the smallest rate and batch that a task would have taken,
    and as many epochs as give each run enough steps."""
    method: Any = recipe.method
    alone = [one.recipe.train for one in each.values()]
    rate = min(train.learning_rate or 0.0 for train in alone)
    size = min(train.batch_size or 1 for train in alone)
    train = alone[0].model_copy(update={"learning_rate": rate, "batch_size": size})
    steps = _steps_of_an_epoch(each, texts, train)
    fewest, most = method.epochs_between
    wanted = -(-method.steps_wanted * len(each) // steps)
    epochs = recipe.train.epochs or min(most, max(fewest, wanted))
    own = recipe.train
    if own.max_steps or own.tokens:
        tokens = sum(
            int(one.stores["train"].lengths.sum()) for one in (*each.values(), *texts.values())
        )
        epochs = -(-own.max_steps // steps) if own.max_steps else -(-(own.tokens or 0) // tokens)
    patience = recipe.train.patience
    patience = max(3, epochs // 4) if patience is None else patience
    chosen = None if own.max_steps or own.tokens else epochs
    return train.model_copy(update={"epochs": chosen, "patience": patience})


def _steps_of_an_epoch(each: dict[str, Prepared], texts: dict[str, Texts], train: Train) -> int:
    """As many as pass once over every task's rows."""
    from warmstart.data.tokens.batching import plan

    lengths = [one.stores["train"].sizes[one.rows] for one in each.values()]
    lengths += [one.stores["train"].lengths for one in texts.values()]
    size = train.batch_size or 1
    if train.batch_tokens:
        return sum(len(plan(one, size, 0, 0, train.batch_tokens)) for one in lengths)
    return sum(-(-len(one) // size) for one in lengths)


def _under(one: Prepared, train: Train) -> Prepared:
    """The task under the choices of the whole run."""
    return replace(one, recipe=one.recipe.model_copy(update={"train": train}))


def _resolved(task: Multitask, each: dict[str, Prepared]) -> dict[str, dict[str, Any]]:
    """The entries with every setting of their tasks."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in task.tasks.items():
        plain = {**entry, "data": str(entry["data"])} if "data" in entry else dict(entry)
        kind = each[name].task if name in each else None
        own = {"name": kind.part_name(), **toml_table(kind)} if kind else {}
        said_weight = {"weight": task.weight_of(name)} if "weight" in entry else {}
        found[name] = {**plain, **own, **said_weight}
    return found


def _sums(tables: list[dict[str, int]]) -> dict[str, int]:
    """Several counts as one."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: sum(table.get(key, 0) for table in tables) for key in keys}
