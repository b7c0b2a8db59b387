"""The runs of a comparison before any of them begins: prepared once, checked, rehearsed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, RunError
from warmstart.pipelines.compare.request import Wanted
from warmstart.pipelines.prepare import Prepared, prepare, prepare_again
from warmstart.pipelines.request import check_recipe
from warmstart.run import Run, check_free, check_writable, free_path, read_json


def place(asked: Sequence[Wanted]) -> Path:
    """The folder of a new comparison. Raises `RunError` where it cannot be made."""
    recipe = asked[0].recipe
    source = recipe.data.path or recipe.data.train or "data"
    methods = {one.method for one in asked}
    what = "methods" if len(methods) > 1 else f"{asked[0].method}-seeds"
    stem = f"{Path(source).resolve().stem or 'data'}-{what}"
    out = Path(recipe.out) if recipe.out else free_path(stem)
    check_free(out)
    check_writable(out)
    return out


def rehearse_several(
    asked: Sequence[Wanted], source: Any = None, *, out: Path | None = None
) -> dict[str, Any]:
    """What `tune_several` would do; see `api.plan`. `out` is a comparison to go on with."""
    out = out or place(asked)
    prepared = prepare_all(asked, source)
    runs = [
        {"name": one.name, "method": one.method, "seed": one.recipe.seed, "recipe": ready.recipe,
         "done": is_done(out / one.name)}
        for one, ready in zip(asked, prepared, strict=True)
    ]  # fmt: skip
    first = prepared[0]
    return {**first.facts(), "ledger": first.ledger.summary(), "out": str(out), "runs": runs}


def prepare_all(asked: Sequence[Wanted], source: Any = None) -> list[Prepared]:
    """Every run prepared; what they share is read and split into tokens once.

    Raises `RecipeError` that names every method which does not go with the base.
    """
    found: list[Prepared] = []
    refused: dict[str, str] = {}
    for one in asked:
        if one.method in refused:
            continue
        try:
            found.append(_prepared(one.recipe, source, found))
        except RecipeError as error:
            refused[one.method] = str(error)
    if refused:
        reasons = dict.fromkeys(refused.values())
        if len(reasons) == 1 and len(refused) == len({one.method for one in asked}):
            raise RecipeError(next(iter(reasons)))
        told = "; ".join(f"{method}: {reason}" for method, reason in refused.items())
        names = ", ".join(refused)
        raise RecipeError(f"nothing was trained, because {names} cannot be here. {told}")
    return found


def _prepared(recipe: Recipe, source: Any, before: Sequence[Prepared]) -> Prepared:
    for known in {id(one.splits): one for one in before}.values():
        if again := prepare_again(known, recipe):
            return again
    return prepare(recipe, source)


def resumed(path: Path) -> list[Wanted]:
    """The runs of a comparison that was begun. Raises `RunError`."""
    runs = read_json(path / "comparison.json")["asked"]
    return [
        Wanted(run["name"], run["method"], Recipe.of(run["recipe"], quiet=True)) for run in runs
    ]


def is_done(path: Path) -> bool:
    """Whether a run came to its end."""
    return (path / "run.json").is_file() and Run(path).status == "done"


def check_same_data(out: Path, asked: Sequence[Wanted], prepared: Sequence[Prepared]) -> None:
    """Raise `RunError` where a run that is there already was made from other data or base, or by
    another recipe."""
    for one, ready in zip(asked, prepared, strict=True):
        if not (out / one.name / "run.json").is_file():
            continue
        if not is_done(out / one.name):
            check_recipe(Run(out / one.name), out)
        facts = Run(out / one.name).facts
        if facts["fingerprint"] != ready.splits.fingerprint:
            raise RunError(
                f"cannot resume {out}: the data have changed since it began; put the old ones "
                "back, or begin a new comparison"
            )
        if facts["base"]["sha256"] != ready.base.sha256:
            raise RunError(
                f"cannot resume {out}: the base model has changed since it began; put the old one "
                "back, or begin a new comparison"
            )
