"""What warmstart can do, as functions. The command line calls these and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from warmstart.errors import RecipeError
from warmstart.recipe import Recipe, read_file
from warmstart.run import Run
from warmstart.types import Prediction
from warmstart.verbs import tokenizer

if TYPE_CHECKING:
    from warmstart.train.fit import Listener
    from warmstart.verbs.inspect import Inspection

__all__ = [
    "answers",
    "demo",
    "evaluate",
    "inspect",
    "models",
    "plan",
    "predict",
    "recipe_for",
    "tokenizer",
    "tune",
]
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


def inspect(
    data: Any = None,
    *,
    base: str = "minilm",
    out: str | Path | None = None,
    fix: str | Path | None = None,
    split: str | Path | None = None,
    features: bool = True,
    max_rows: int = 20_000,
    progress: Callable[[str, int, int], None] | None = None,
    **keys: Any,
) -> Inspection:
    """Look at the data before training: what they are, what is wrong with them, what to do.

    Args:
        data: a file, a folder, a hub dataset id, or a pandas, Arrow or `datasets` object.
        base: whose tokenizer counts the tokens and whose features judge the labels.
        out: the folder of the report; unset: `runs/<data>-inspect`.
        fix: where to write a clean copy: a file, or a folder where there are several splits.
        split: the folder to write train, validation and test to, cut as `tune` would.
        features: whether labels are judged by a model on frozen features (the slow part).
        max_rows: the most rows to judge; of more, a sample is taken.
        progress: told (what, done, of).
        keys: `data.*` and `task.*` keys and the seed, as in `tune`.

    Raises `WarmstartError`; nothing that exists is overwritten.
    """
    from warmstart.verbs.inspect import HEADS
    from warmstart.verbs.inspect import inspect as run_it

    recipe = recipe_for(data, None, {"base": base, **keys})
    if strange := [key for key in keys if key.partition(".")[0] not in HEADS]:
        raise RecipeError(
            f"'{strange[0]}' does not apply here: nothing is trained; keys of {', '.join(HEADS)} do"
        )
    return run_it(
        recipe, _object(data), out=_path(out), fix=_path(fix), split=_path(split),
        features=features, max_rows=max_rows, progress=progress,
    )  # fmt: skip


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
        resume: a run folder to go on with, by its own recipe; one that is done is returned.
        listeners: told of every step and epoch.
        keys: any recipe key, nested or dotted: `method="lora"`, `**{"train.epochs": 3}`.

    Raises `WarmstartError`; nothing is written before the request, the data and the base are good.
    """
    from warmstart.verbs.tune import tune as run_it

    if resume is None:
        return run_it(recipe_for(data, recipe, keys), _object(data), listeners=[*listeners])
    run = _resumed(resume, data, recipe, keys)
    if run.status == "done":
        return run
    return run_it(run.recipe, _object(data), resume=run.path, listeners=[*listeners])


def plan(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: str | Path | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """What `tune` would do, checked as far as it can be without training; writes nothing.

    The resolved recipe, the rows, tokens and labels of each split, the number of steps (fewer
    where training stops early), and the ledger.
    """
    from warmstart.verbs.rehearse import rehearse

    if resume is not None:
        run = _resumed(resume, data, recipe, keys)
        return rehearse(run.recipe, _object(data), out=run.path)
    return rehearse(recipe_for(data, recipe, keys), _object(data))


@overload
def predict(
    model: str | Path, data: Any, *, out: None = None, notes: list[str] | None = None, **keys: Any
) -> list[Prediction]: ...
@overload
def predict(
    model: str | Path, data: Any, *, out: str | Path, notes: list[str] | None = None, **keys: Any
) -> int: ...
def predict(
    model: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    notes: list[str] | None = None,
    **keys: Any,
) -> list[Prediction] | int:
    """Labels with confidence for texts, or for the rows of a file or table.

    Args:
        model: a run, or a model folder.
        data: a text, a list of texts, a file, or a pandas, Arrow or `datasets` object.
        out: where to write all columns with `prediction` and `confidence` added (CSV, TSV, JSONL
            or Parquet, by its ending). The rows are then written as they are labelled, none is
            kept in memory, and their number is returned.
        notes: is told of texts that are empty or had to be cut.
        keys: `data.*` keys, as in `tune`.
    """
    from warmstart.verbs.answer import answers, label_file

    if out is None:
        return [answer for _, answer in answers(Path(model), data, keys, notes)]
    return label_file(Path(model), data, Path(out), keys, notes)


def answers(
    model: str | Path, data: Any, *, notes: list[str] | None = None, **keys: Any
) -> Iterator[tuple[str, Prediction]]:
    """As `predict`, one text with its answer after the other; `data` may be an iterator of texts.

    `notes` is complete when the last answer has been given.
    """
    from warmstart.verbs.answer import answers as give

    return give(Path(model), data, keys, notes)


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
    return tune(
        SAMPLES / "tickets.csv", listeners=listeners, **({"out": out} if out else {}), **keys
    )


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _object(data: Any) -> Any:
    """The data where they are an object; a path stands in the recipe."""
    return None if isinstance(data, str | Path) else data


def _resumed(
    path: str | Path, data: Any, recipe: Recipe | str | Path | None, keys: Mapping[str, Any]
) -> Run:
    """The run to go on with. Raises `RecipeError` when something else was asked besides."""
    besides = [*keys, *(["the recipe"] if recipe is not None else [])]
    besides += ["the data"] if isinstance(data, str | Path) else []
    if besides:
        raise RecipeError(
            f"--resume goes on with the run's own data and recipe; leave out {', '.join(besides)}"
        )
    run = Run(path)
    said = run.recipe.data
    if data is None and said.path is None and said.train is None and run.status != "done":
        raise RecipeError(
            f"{path} was made from an object in Python; go on with it there: "
            f"warmstart.tune(the same data, resume={str(path)!r})"
        )
    return run
