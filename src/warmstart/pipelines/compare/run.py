"""`tune` with several methods or seeds: the same rows and tokens, one run each, one comparison.

A comparison is a folder: a whole run folder for each method and seed, `comparison.json` with what
was asked and what came of it, and `comparison.html` to be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from warmstart.config.recipe import Recipe
from warmstart.config.toml import toml_table
from warmstart.data.ledger import Ledger
from warmstart.errors import RecipeError, RunError, WarmstartError, typed
from warmstart.files import write_json
from warmstart.models.loading import load_tokenizer
from warmstart.pipelines.choices import check_method, fitted, resolved, rows_of
from warmstart.pipelines.compare.request import Wanted, wanted
from warmstart.pipelines.compare.result import Comparison, finish_comparison
from warmstart.pipelines.prepare import Prepared, prepare
from warmstart.pipelines.pretrain.scratch import base_of
from warmstart.pipelines.reading.recognise import recipe_of, with_task
from warmstart.pipelines.request import Request, check_recipe, check_unchanged
from warmstart.pipelines.resources import Meter
from warmstart.pipelines.tune import tell_first, tune
from warmstart.run import Run, held, now, read_json, run_folder
from warmstart.training.progress import Interrupted
from warmstart.types import Listener


def tune_asked(request: Request, listeners: Sequence[Listener] = ()) -> Comparison:
    """Begin a comparison or go on with one; one that is done is returned.

    Raises `WarmstartError`; before the first weight moves, and before anything is written, all of
    its runs are known to be possible. A run that fails by itself (its loss is no number, its memory
    is not enough) is told and left out; with `resume` what is done is kept, and the rest goes on.
    """
    if request.resume is not None:
        request.check_nothing_besides()
        begun = Comparison(request.resume)
        if begun.summary["status"] == "done":
            return begun
    ledger = Ledger()
    runs, out, summary = _runs_of(request, ledger)
    if summary is not None:
        request.check_source(runs[0].recipe, summary)
    prepared = _prepare_all(runs, request.source)
    for note in ledger.notes[:1]:
        prepared[0].ledger.note(**note)
        for listener in listeners:
            listener.note(note["message"])
    if summary is None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, runs, status="running", created=now(), began_in=os.getcwd())
    for one, ready in zip(runs, prepared, strict=True):
        if (out / one.name / "run.json").is_file():
            run = Run(out / one.name)
            if run.status != "done":
                check_recipe(run, out)
            check_unchanged(run.facts, ready.facts(), out, "comparison")
    meter = Meter(prepared[0].recipe.train.device)
    if any(ready.method.saves_adapter for ready in prepared):
        import peft  # noqa: F401  # its own size is not that of the first run which needs it
    failed: dict[str, str] = {}
    with held(out), _record_ending(out, runs):
        tell_first(prepared[0].ledger, listeners)
        for number, (one, ready) in enumerate(zip(runs, prepared, strict=True), 1):
            path = out / one.name
            if _is_done(path):
                continue
            for listener in listeners:
                listener.begin_run(one.name, number, len(runs))
            if reason := _run(path, ready, request.source, [*listeners, meter], meter):
                failed[one.name] = reason
        return finish_comparison(out, runs, prepared[0], failed, meter)


def plan_asked(request: Request) -> dict[str, Any]:
    """What `tune_asked` would do; see `api.plan`."""
    ledger = Ledger()
    runs, out, summary = _runs_of(request, ledger)
    if summary is not None:
        request.check_place(runs[0].recipe, summary)
    prepared = _prepare_all(runs, request.source)
    for note in ledger.notes[:1]:
        prepared[0].ledger.note(**note)
    plans = [
        {"name": one.name, "method": one.method, "seed": one.recipe.seed, "recipe": ready.recipe,
         "done": _is_done(out / one.name)}
        for one, ready in zip(runs, prepared, strict=True)
    ]  # fmt: skip
    first = prepared[0]
    return {**first.facts(), "ledger": first.ledger.summary(), "out": str(out), "runs": plans}


def _runs_of(request: Request, ledger: Ledger) -> tuple[list[Wanted], Path, dict[str, Any] | None]:
    """The runs that are meant, their folder, and the summary of a comparison to go on with; a task
    that the columns say is noted in the ledger."""
    if request.resume is None:
        runs = [
            replace(run, recipe=with_task(run.recipe, request.source, ledger))
            for run in wanted(*request.layers(), partial(recipe_of, request.source))
        ]
        recipe, methods = runs[0].recipe, {one.method for one in runs}
        what = "methods" if len(methods) > 1 else f"{runs[0].method}-seeds"
        return runs, run_folder(recipe.out, recipe.data.path or recipe.data.train, what), None
    request.check_nothing_besides()
    begun = Comparison(request.resume)
    runs = [
        Wanted(run["name"], run["method"], Recipe.of(run["recipe"], quiet=True))
        for run in begun.summary["asked"]
    ]
    return runs, begun.path, begun.summary


def _prepare_all(runs: Sequence[Wanted], source: Any) -> list[Prepared]:
    """Every run prepared; what they share is read and split into tokens once.

    Raises `RecipeError` that names every method which does not go with the base.
    """
    ready: list[Prepared] = []
    refused: dict[str, str] = {}
    for one in runs:
        if one.method in refused:
            continue
        try:
            known = {id(before.splits): before for before in ready}.values()
            again = (_prepare_again(before, one.recipe) for before in known)
            ready.append(next(filter(None, again), None) or prepare(one.recipe, source))
        except RecipeError as error:
            refused[one.method] = str(error)
    if refused:
        reasons = dict.fromkeys(refused.values())
        if len(reasons) == 1 and len(refused) == len({one.method for one in runs}):
            raise RecipeError(next(iter(reasons)))
        listing = "; ".join(f"{method}: {reason}" for method, reason in refused.items())
        names = ", ".join(refused)
        raise RecipeError(f"nothing was trained, because {names} cannot be here. {listing}")
    return ready


def _prepare_again(prepared: Prepared, recipe: Recipe) -> Prepared | None:
    """The same rows and tokens for a recipe that differs in method and seed alone.

    None where that method has room for fewer tokens, so that they have to be split anew.
    """
    base, store = prepared.base, prepared.stores["train"]
    if recipe.scratch.architecture is not None:  # which begins as the seed says
        base = base_of(recipe, prepared.splits, prepared.ledger)
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = prepared.tokenizer.chat_template
    check_method(recipe, base)
    wanted: Any = recipe.task
    recipe = recipe.model_copy(update={"task": wanted.as_read_by(prepared.task)})
    task = fitted(recipe, base, tokenizer, prepared.splits)
    if task.max_length != prepared.task.max_length:
        return None
    recipe = recipe.model_copy(update={"task": task})
    rows = prepared.rows if prepared.held else rows_of(recipe, store)
    recipe = resolved(recipe, base, rows, store)
    return replace(prepared, recipe=recipe, base=base, tokenizer=tokenizer, rows=rows)


def _is_done(path: Path) -> bool:
    return (path / "run.json").is_file() and Run(path).status == "done"


def _run(
    path: Path, prepared: Prepared, source: Any, listeners: list[Listener], meter: Meter
) -> str:
    """One run, new or gone on with; returns why it failed, or nothing."""
    begun = (path / "run.json").is_file()
    if not begun:
        (path / "recipe.toml").unlink(missing_ok=True)  # a run that died while it was created
    recipe = prepared.recipe.model_copy(update={"out": str(path)})
    meter.begin()
    try:
        run = tune(
            recipe, source, resume=path if begun else None, listeners=listeners,
            prepared=replace(prepared, recipe=recipe),
        )  # fmt: skip
    except RunError as error:
        if isinstance(error, Interrupted) or isinstance(error.__cause__, OSError):
            raise
        return str(error)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return "the memory of the device is not enough; lower train.micro_batch_tokens"
    run.update(meter={**meter.facts(), "whole": not begun})
    return ""


@contextlib.contextmanager
def _record_ending(out: Path, runs: Sequence[Wanted]) -> Iterator[None]:
    """The status says how it ended; errors name the comparison to go on with, not the run."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            _write(out, runs, status="stopped", reason=f"{type(error).__name__}: {error}"[:300])
        if isinstance(error, WarmstartError):
            text = str(error)
            for one in runs:
                text = text.replace(f"--resume {typed(out / one.name)}", f"--resume {typed(out)}")
            raise type(error)(text) from error.__cause__
        raise


def _write(out: Path, runs: Sequence[Wanted], **facts: Any) -> None:
    """`comparison.json` before there is a result: what was asked."""
    path = out / "comparison.json"
    known = read_json(path) if path.exists() else {}
    requested = [
        {"name": one.name, "method": one.method, "recipe": toml_table(one.recipe)} for one in runs
    ]
    write_json(path, {**known, "name": out.name, **facts, "asked": requested})
