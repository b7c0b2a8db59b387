"""`tune`: from a request to a finished run; and its dry run, which trains and writes nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from warmstart.config.recipe import Recipe
from warmstart.errors import RunError, typed
from warmstart.pipelines.finish import finish, speed_of
from warmstart.pipelines.multitask.finish import finish_tasks
from warmstart.pipelines.multitask.prepare import PreparedTasks, prepare_tasks
from warmstart.pipelines.multitask.session import TasksSession
from warmstart.pipelines.prepare import Prepared, prepare, rows_in
from warmstart.pipelines.request import check_unchanged
from warmstart.pipelines.session import Session
from warmstart.run import Run, held, now, run_folder, versions, why
from warmstart.training import checkpoint
from warmstart.training.memory import give_back_memory, keep_freed_memory, small_heap
from warmstart.training.precision import use_cores
from warmstart.training.progress import Interrupted, signals_interrupt
from warmstart.types import Listener


def tune(
    recipe: Recipe,
    source: Any = None,
    *,
    resume: Path | None = None,
    listeners: list[Listener] | None = None,
    prepared: Prepared | None = None,
) -> Run:
    """Train, evaluate, save and prove. Raises `WarmstartError`; nothing is written before the
    data, the base and the recipe are known to be good. `prepared` is of this recipe."""
    small_heap()
    threads = use_cores()
    if resume is None:
        _folder_of(recipe)
    else:  # the same sums in the same order
        threads = use_cores(Run(resume).facts.get("threads"))
    ready = prepared or _prepare(recipe, source)
    if resume is None:
        out = _folder_of(recipe)
        ready = replace(ready, recipe=ready.recipe.model_copy(update={"out": str(out)}))
        facts = {
            **ready.facts(),
            "created": now(),
            "versions": versions(),
            "began_in": os.getcwd(),
            "threads": threads,
        }
        run = Run.create(out, ready.recipe, facts)
    else:
        run = Run(resume)
        check_unchanged(run.facts, ready.facts(), resume)
    with held(run.path), signals_interrupt(), _telling(run):
        if resume is not None:
            run.update(status="running")
        if prepared is None and isinstance(ready, Prepared):
            ready = rows_in(run.path, ready)
        give_back_memory()
        keep_freed_memory()
        _train(run, ready, listeners or [], resume is not None, tell=prepared is None)
    return Run(run.path)


def _prepare(recipe: Recipe, source: Any) -> Prepared | PreparedTasks:
    """Read and check everything; each task names its own data where there are several."""
    task: Any = recipe.task
    return prepare_tasks(recipe, source) if task.own_data else prepare(recipe, source)


def tell_first(ledger: Any, listeners: Sequence[Listener]) -> None:
    """Say what a person should know before training: how the data were read, and loud notes."""
    for text in ledger.first_remarks:
        for listener in listeners:
            listener.note(text)


def _train(
    run: Run,
    prepared: Prepared | PreparedTasks,
    listeners: list[Listener],
    resume: bool,
    tell: bool,
) -> None:
    passed_over = checkpoint.passed_over(run.path / "checkpoints") if resume else ""
    if passed_over:
        for listener in listeners:
            listener.note(passed_over)
        prepared.ledger.note("checkpoint", passed_over)
    try:
        session = _begin(prepared)
    except BaseException:  # a base that is good only at first sight: nothing has been trained yet
        if not resume:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    prepared.ledger.write(run.path)
    if tell:
        tell_first(prepared.ledger, listeners)
    progress, caching = session.fit(run.path, listeners, resume=resume)
    peak = session.work.peak if isinstance(session, Session) and session.work else None
    outputs, prepared = session.answers(), session.prepared
    session.save(run.model)
    forgetting = session.forgetting()
    precision, threads = prepared.recipe.train.precision, run.facts.get("threads")
    speed = speed_of(progress, caching, session.device.type, precision, threads, peak)
    size = session.size()
    del session
    give_back_memory()
    if isinstance(prepared, PreparedTasks):
        finish_tasks(run, prepared, progress, outputs, speed, size)
    else:
        finish(run, prepared, progress, outputs, speed, size, forgetting)
    checkpoint.clear(run.path / "checkpoints")


def _begin(prepared: Prepared | PreparedTasks) -> Session | TasksSession:
    if isinstance(prepared, PreparedTasks):
        return TasksSession.begin(prepared)
    return Session.begin(prepared)


def dry_run(recipe: Recipe, source: Any = None, out: Path | None = None) -> dict[str, Any]:
    """What `tune` would do with this recipe; see `api.plan`. `out` is a run to go on with."""
    out = _folder_of(recipe) if out is None else out
    prepared = _prepare(recipe, source)
    single = isinstance(prepared, Prepared)
    shown = prepared.task.preview(prepared.examples["train"]) if single else []
    return {
        **prepared.facts(),
        "base_path": str(prepared.base.path),
        "counts": prepared.counts(),
        "steps": prepared.steps(),
        "out": str(out),
        "ledger": prepared.ledger.summary(),
        "recipe": prepared.recipe,
        "preview": shown,
    }


@contextlib.contextmanager
def _telling(run: Run):
    """The run's status says how it ended, and the error how to go on."""
    go_on = f"go on with it: warmstart tune --resume {typed(run.path)}"
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            run.update(status="stopped", reason=f"{type(error).__name__}: {error}"[:300])
        if isinstance(error, OSError):
            reason = f"cannot write to {run.path}: {why(error)}"
            raise RunError(f"{reason}; mend that, and {go_on}") from error
        if isinstance(error, Interrupted):
            raise type(error)(f"{error}; {go_on}") from None
        if isinstance(error, KeyboardInterrupt) and (run.path / "run.json").is_file():
            raise Interrupted(f"interrupted before or after the training steps; {go_on}") from None
        if isinstance(error, RunError) and error.__cause__ is not None:  # disk full, read-only
            raise RunError(f"{error}; mend that, and {go_on}") from error
        raise


def _folder_of(recipe: Recipe) -> Path:
    """Where a new run of this recipe stands. Raises `RunError`."""
    task: Any = recipe.task
    source = task.part_name() if task.own_data else recipe.data.path or recipe.data.train
    return run_folder(recipe.out, source, recipe.method.part_name())
