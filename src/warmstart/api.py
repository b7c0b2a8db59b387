"""What warmstart can do, as functions. The command line calls these and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.errors import RecipeError
from warmstart.recipe import Recipe, read_file
from warmstart.run import Run
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.train.fit import Listener

SAMPLES = Path(__file__).parent / "samples"


def recipe_for(data: Any, recipe: Recipe | str | Path | None, keys: Mapping[str, Any]) -> Recipe:
    """Defaults < recipe (an object or a TOML file) < keys. Raises `RecipeError`."""
    below: dict[str, Any] = {}
    if isinstance(recipe, Recipe):
        below = recipe.model_dump(exclude_unset=True)
    elif recipe is not None:
        below = read_file(recipe)
    above = dict(keys)
    if isinstance(data, str | Path):
        above["data.path"] = str(data)
    return Recipe.of(below, above)


def tune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: str | Path | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run:
    """Fine-tune a base model on labelled data, judge it, save it and prove the saved folder.

    Args:
        data: a file, a folder, a hub dataset id, or a pandas, Arrow or `datasets` object.
        recipe: a recipe or the path of a TOML file; `keys` win over it.
        resume: a run folder to go on with; its own recipe is used.
        listeners: told of every step and epoch.
        keys: any recipe key, nested or dotted: `method="lora"`, `**{"train.epochs": 3}`.

    Raises `WarmstartError`; nothing is written before the request, the data and the base are good.
    """
    from warmstart.verbs.tune import tune as run_it

    source = None if data is None or isinstance(data, str | Path) else data
    if resume is not None:
        if keys or recipe is not None:
            raise RecipeError(
                "--resume goes on with the run's own recipe; leave the other keys out"
            )
        return run_it(Run(resume).recipe, source, resume=Path(resume), listeners=[*listeners])
    return run_it(recipe_for(data, recipe, keys), source, listeners=[*listeners])


def plan(
    data: Any = None, *, recipe: Recipe | str | Path | None = None, **keys: Any
) -> dict[str, Any]:
    """What `tune` would do, checked as far as it can be without training; writes nothing."""
    from warmstart.verbs.prepare import prepare

    source = None if data is None or isinstance(data, str | Path) else data
    prepared = prepare(recipe_for(data, recipe, keys), source)
    return {**prepared.facts(), "ledger": prepared.ledger.summary(), "recipe": prepared.recipe}


def predict(
    model: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    **keys: Any,
) -> list[Prediction]:
    """Labels with confidence for a list of texts, or for the rows of a file or table.

    Args:
        model: a run, or a model folder.
        out: where to write all columns with `prediction` and `confidence` added (CSV, JSONL or
            Parquet, by its ending).
        keys: `data.*` keys, as in `tune`.
    """
    from warmstart.verbs.answer import predict as run_it

    return run_it(Path(model), data, Path(out) if out else None, keys)


def evaluate(
    model: str | Path, data: Any, *, out: str | Path | None = None, **keys: Any
) -> dict[str, Any]:
    """Score a run or a model folder on labelled data; the metrics with intervals.

    Args:
        model: a run, or a model folder.
        data: a file or table with text and label; a folder's test split.
        out: where to write `metrics.json` and `predictions.parquet`.
        keys: `data.*` and `evaluate.*` keys, as in `tune`.
    """
    from warmstart.verbs.answer import evaluate as run_it

    return run_it(Path(model), data, Path(out) if out else None, keys)


def models() -> list[dict[str, Any]]:
    """The base models at hand: embedded ones, and those in the hub's cache."""
    from warmstart.models.catalog import listing

    return listing()


def demo(out: str | Path | None = None, listeners: Sequence[Listener] = (), **keys: Any) -> Run:
    """The main job on the sample data that comes with warmstart: about 600 customer messages."""
    return tune(SAMPLES / "tickets.csv", listeners=listeners, out=out and str(out), **keys)
