"""A request, before anything is read but the recipe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.config.keys import APPLIES, PARTS, check_applies, nested, plain
from warmstart.config.recipe import Recipe, read_part
from warmstart.config.toml import read_file, read_toml, toml_table
from warmstart.errors import RecipeError, RunError, shown, typed
from warmstart.inference.openai import is_hosted
from warmstart.part import OWN_HEAD, Part, allow_named
from warmstart.pipelines.compare.request import is_several
from warmstart.pipelines.compare.result import is_comparison
from warmstart.pipelines.reading.recognise import recipe_of
from warmstart.run import Run

FREE = (
    "out", "data.path", "data.train", "data.validation", "data.test",
    "train.checkpoint_seconds", "train.device", "train.micro_batch_tokens",
    "train.gradient_checkpointing",
)  # fmt: skip
"""Keys that may differ in a run that goes on, besides those of evaluate: where things stand
(whether the rows are the same is checked by themselves), and how a step is computed."""
MOST = 3  # keys that a message names


def check_recipe(run: Run, place: Path | None = None) -> None:
    """Raise `RunError` where the run's recipe is not the one that it began with, in `run.json`.

    `place` is the folder to resume, where the run is one of a comparison. A run that an older
    version began has no record.
    """
    record = run.facts.get("recipe")
    if record is None:
        return
    before, now = _flat(Recipe.of(read_toml(record), quiet=True)), _flat(run.recipe)

    def value(flat: Mapping[str, Any], key: str) -> str:
        return shown(flat[key]) if key in flat else "unset"

    changes = [
        f"{key} was {value(before, key)} when it began and is {value(now, key)} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not (key in FREE or key.startswith("evaluate."))
    ]
    if changes:
        rest = len(changes) - MOST
        more = f", and {rest} more keys have changed" if rest > 0 else ""
        raise RunError(
            f"cannot resume {place or run.path}: {', '.join(changes[:MOST])}{more}; put it back in "
            f"{run.path / 'recipe.toml'}, or begin a new run"
        )


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted name → value, as JSON gives it back; what is unset is left out."""

    def leaves(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{above}{key}.")  # pyright: ignore[reportUnknownArgumentType]
            else:
                yield above + key, value

    return dict(leaves(json.loads(json.dumps(toml_table(recipe), default=str)), ""))


def check_unchanged(
    facts: Mapping[str, Any], now: Mapping[str, Any], place: Path, what: str = "run"
) -> None:
    """Raise `RunError` where what a run goes on with is not what it began with, by the
    facts of what was prepared (`Prepared.facts`) then and now."""
    old_and_new = {
        "the data have changed since it began; put the old ones back": (
            facts["fingerprint"], now["fingerprint"]
        ),
        "the general text of forgetting.text has changed since it began; put the old one back": (
            facts.get("general"), now.get("general")
        ),
        "the base model has changed since it began; put the old one back": (
            facts["base"]["sha256"], now["base"]["sha256"]
        ),
    }  # fmt: skip
    for change, (old, new) in old_and_new.items():
        if old != new:
            raise RunError(f"cannot resume {place}: {change}, or begin a new {what}")


@dataclass(frozen=True, slots=True)
class Request:
    """Data, a recipe and keys above it; or a folder to go on with, and nothing besides."""

    data: Any
    recipe: Recipe | Mapping[str, Any] | str | Path | None
    keys: Mapping[str, Any]
    resume: str | Path | None = None

    @property
    def several(self) -> bool:
        """Whether more than one run is meant."""
        return is_comparison(self.resume) or is_several(self.keys)

    @property
    def source(self) -> Any:
        """The data where they are an object; a path stands in the recipe."""
        return None if isinstance(self.data, str | Path) else self.data

    def layers(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the recipe says, and what the request says above it. Raises `RecipeError`."""
        below: dict[str, Any] = {}
        if isinstance(self.recipe, Recipe):
            below = self.recipe.model_dump(exclude_unset=True)
        elif isinstance(self.recipe, Mapping):
            below = dict(self.recipe)
        elif self.recipe is not None:
            below = read_file(self.recipe)
        above, path = dict(self.keys), self.keys.get("data.path")
        if self.data is not None and path is not None and str(path) != str(self.data):
            data = f"'{shown(self.data, 100)}'" if self.source is None else "an object"
            raise RecipeError(
                f"two sources of data, {data} and data.path '{shown(path, 100)}'; leave one out"
            )
        if isinstance(self.data, str | Path):
            above["data.path"] = str(self.data)
        allow_named(above)  # and not `below`: a recipe may come out of a folder
        return below, above

    def resolved(self) -> Recipe:
        """Defaults < recipe < keys, checked whole. Settings of a task that nobody named are those
        of the task that the data say. Raises `RecipeError`."""
        return recipe_of(self.source, *self.layers())

    def run(self) -> Run:
        """The run to go on with. Raises `RecipeError` where the request says more than that, and
        `RunError` where its recipe is not the one that it began with."""
        self.check_nothing_besides()
        run = Run(self.resume or "")
        if run.status != "done":
            check_recipe(run)
            self.check_source(run.recipe, run.facts)
        return run

    def check_nothing_besides(self) -> None:
        """Raise `RecipeError` where the request says more than which folder to resume, and which
        code of the user's own may be run for it."""
        allow_named(self.keys)
        besides = [
            *(key for key in self.keys if key != OWN_HEAD),
            *(["the recipe"] if self.recipe is not None else []),
        ]
        besides += ["the data"] if isinstance(self.data, str | Path) else []
        if besides:
            raise RecipeError(
                "--resume goes on with the run's own data and recipe; leave out "
                f"{', '.join(besides)}"
            )

    def check_source(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Raise `RecipeError` where the data to go on with were an object and are not there, and
        `RunError` where they are to be found from another folder."""
        self.check_place(recipe, facts)
        task: Any = recipe.task
        named = recipe.data.path or recipe.data.train or task.own_data
        if self.data is None and not named:
            raise RecipeError(
                f"{self.resume} was made from an object in Python; go on with it there: "
                f"warmstart.tune(the same data, resume={str(self.resume)!r})"
            )

    def check_place(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Raise `RunError` where a path of the recipe leads somewhere from the folder that the run
        began in, and nowhere from this one."""
        began, data = facts.get("began_in"), recipe.data
        paths = (data.path, data.train, data.validation, data.test, data.corrections,
                 recipe.forgetting.text)  # fmt: skip
        base = recipe.base if "/" in recipe.base else None
        for path in (*paths, base):
            if began and path and not os.path.exists(path):
                if os.path.exists(os.path.join(str(began), path)):
                    raise RunError(
                        f"cannot resume {self.resume} from here: its recipe names '{path}', and "
                        f"the run began in another folder; go there first: cd {typed(began)}"
                    )


# What a verb that trains nothing takes.


def settings_of(verb: str, typed: Mapping[str, Any]) -> Recipe:
    """The recipe that keys make for a verb that trains nothing. Raises `RecipeError` for one that
    means nothing to it."""
    engine = _of("engine", typed) if "engine" in APPLIES[verb] else {}
    recipe = Recipe.of({key: value for key, value in typed.items() if key not in engine})
    check_applies(verb, nested(typed), typed)
    return recipe


def engine_of(typed: Mapping[str, Any], models: Sequence[object] = ()) -> Any:
    """The engine that keys name, with its settings; of hosted `models` openai where they name none.
    Raises `RecipeError`."""
    own: dict[str, Any] = {"engine": "openai"} if any(is_hosted(model) for model in models) else {}
    return _read("engine", nested({**own, **_of("engine", typed)}).get("engine", PARTS["engine"]))


def engine_for(engine: Any, model: object) -> Any:
    """The engine that answers for a model where hosted and saved ones stand side by side."""
    asks = engine.part_name() == "openai"
    return (
        engine if asks == is_hosted(model) else _read("engine", "openai" if not asks else "torch")
    )


def read_task(table: Mapping[str, Any]) -> Any:
    """The task that a table with its `name` describes. Raises `RecipeError`."""
    return _read("task", table)


def task_of(typed: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the task that keys name, and its `name` where it has one."""
    return plain("task", nested(_of("task", typed)).get("task", {}))


def _of(section: str, typed: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in typed.items() if key.partition(".")[0] == section}


def _read(kind: str, value: Any) -> Part:
    try:
        return read_part(kind, value)
    except ValueError as error:
        raise RecipeError(f"{kind}: {error}") from None
