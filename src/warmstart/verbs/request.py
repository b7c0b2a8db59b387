"""What was asked of `tune` or `plan`, before anything is read but the recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, RunError, shown, typed
from warmstart.recipe import Recipe, read_file
from warmstart.run import Run
from warmstart.verbs.recorded import check_recipe
from warmstart.verbs.several_request import is_several
from warmstart.verbs.several_result import is_comparison


@dataclass(frozen=True, slots=True)
class Asked:
    """Data, a recipe and keys above it; or a folder to go on with, and nothing besides."""

    data: Any
    recipe: Recipe | str | Path | None
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
        elif self.recipe is not None:
            below = read_file(self.recipe)
        above = dict(self.keys)
        self._check_one_source()
        if isinstance(self.data, str | Path):
            above["data.path"] = str(self.data)
        return below, above

    def _check_one_source(self) -> None:
        """Raise `RecipeError` where the data are given and a key names others."""
        path = self.keys.get("data.path")
        if self.data is None or path is None or str(path) == str(self.data):
            return
        given = f"'{shown(self.data, 100)}'" if self.source is None else "an object"
        raise RecipeError(
            f"two sources of data, {given} and data.path '{shown(path, 100)}'; leave one out"
        )

    def resolved(self) -> Recipe:
        """Defaults < recipe < keys, checked whole. Raises `RecipeError`."""
        return Recipe.of(*self.layers())

    def run(self) -> Run:
        """The run to go on with. Raises `RecipeError` when something else was asked besides, and
        `RunError` when its recipe is not the one that it began with."""
        self.nothing_besides()
        run = Run(self.resume or "")
        if run.status != "done":
            check_recipe(run)
            self.check_source(run.recipe, run.facts)
        return run

    def nothing_besides(self) -> None:
        """Raise `RecipeError` when something else was asked than to go on."""
        besides = [*self.keys, *(["the recipe"] if self.recipe is not None else [])]
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
                 recipe.keep.text)  # fmt: skip
        base = recipe.base if "/" in recipe.base else None
        for path in (*paths, base):
            if began and path and not os.path.exists(path):
                if os.path.exists(os.path.join(str(began), path)):
                    raise RunError(
                        f"cannot resume {self.resume} from here: its recipe names '{path}', and "
                        f"the run began in another folder; go there first: cd {typed(began)}"
                    )
