"""`tune`: from a request to a finished run; and its dry run, which trains and writes nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from warmstart.config.recipe import Recipe
from warmstart.errors import RunError, typed
from warmstart.pipelines.finish import finish, speed_of
from warmstart.pipelines.prepare import Prepared, prepare, rows_in
from warmstart.pipelines.session import Session
from warmstart.run import Run, check_free, check_writable, free_path, now, why

if TYPE_CHECKING:
    from warmstart.training.trainer import Listener


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
    from warmstart.training.memory import give_back_memory, keep_freed_memory, small_heap

    small_heap()
    if resume is None:
        check_free(Path(recipe.out) if recipe.out else free_path(stem(recipe)))
        check_writable(Path(recipe.out or "runs"))
    task: Any = recipe.task
    own = prepared is None and not task.own_data
    if prepared is None:
        prepared = _prepare_tasks(recipe, source) if task.own_data else prepare(recipe, source)
    if resume is None:
        out = Path(recipe.out) if recipe.out else free_path(stem(recipe))
        prepared = replace(prepared, recipe=prepared.recipe.model_copy(update={"out": str(out)}))
        facts = {
            **prepared.facts(),
            "created": now(),
            "versions": versions(),
            "began_in": os.getcwd(),
        }
        run = Run.create(out, prepared.recipe, facts)
    else:
        run = Run(resume)
        if run.facts["fingerprint"] != prepared.facts()["fingerprint"]:
            raise RunError(
                f"cannot resume {resume}: the data have changed since it began; "
                "put the old ones back, or begin a new run"
            )
        if run.facts.get("general") != prepared.facts().get("general"):
            raise RunError(
                f"cannot resume {resume}: the general text of forgetting.text has changed since it "
                "began; put the old one back, or begin a new run"
            )
        if run.facts["base"]["sha256"] != prepared.base.sha256:
            raise RunError(
                f"cannot resume {resume}: the base model has changed since it "
                "began; put the old one back, or begin a new run"
            )
        run.update(status="running")
    prepared = rows_in(run.path, prepared) if own else prepared
    give_back_memory()
    keep_freed_memory()
    with _telling(run):
        _train(run, prepared, listeners or [], resume is not None)
    return Run(run.path)


def _train(run: Run, prepared: Prepared, listeners: list[Listener], resume: bool) -> None:
    from warmstart.training import checkpoint
    from warmstart.training.memory import give_back_memory

    passed_over = checkpoint.passed_over(run.path / "checkpoints") if resume else ""
    if passed_over:
        for listener in listeners:
            listener.note(passed_over)
    if prepared.task.own_data:
        from warmstart.pipelines.multitask.tune import train_tasks

        cast("Any", train_tasks)(run, prepared, listeners, resume)
        return
    if passed_over:
        prepared.ledger.note("checkpoint", passed_over)
    prepared.ledger.write(run.path)
    try:
        session = Session.begin(prepared)
    except BaseException:  # a base that is good only at first sight: nothing has been trained yet
        if not resume:
            shutil.rmtree(run.path, ignore_errors=True)
        raise
    progress, caching = session.fit(run.path, listeners, resume=resume)
    outputs, prepared = session.answers(), session.prepared
    session.save(run.model)
    forgetting = session.forgetting()
    speed = speed_of(progress, caching, session.device.type, prepared.recipe.train.precision)
    size = session.size()
    del session
    give_back_memory()
    finish(run, prepared, progress, outputs, speed, size, forgetting)
    checkpoint.clear(run.path / "checkpoints")


def dry_run(recipe: Recipe, source: Any = None, out: Path | None = None) -> dict[str, Any]:
    """What `tune` would do with this recipe; see `api.plan`. `out` is a run to go on with."""
    if out is None:
        out = Path(recipe.out) if recipe.out else free_path(stem(recipe))
        check_free(out)
        check_writable(out)
    task: Any = recipe.task
    if task.own_data:
        from warmstart.pipelines.multitask.prepare import rehearse_tasks

        return {**rehearse_tasks(recipe, source), "out": str(out)}
    prepared = prepare(recipe, source)
    return {
        **prepared.facts(),
        "counts": _counts(prepared),
        "steps": _steps(prepared),
        "out": str(out),
        "ledger": prepared.ledger.summary(),
        "recipe": prepared.recipe,
    }


def _counts(prepared: Prepared) -> dict[str, dict[str, int]]:
    """Label → split → rows."""
    if not prepared.task.head.single_label:
        return {}
    k = len(prepared.labels)
    numbers = {
        name: np.bincount(store.targets, minlength=k) for name, store in prepared.stores.items()
    }
    return {
        label: {name: int(counts[i]) for name, counts in numbers.items()}
        for i, label in enumerate(prepared.labels)
    }


def _steps(prepared: Prepared) -> int:
    """Steps of the whole run."""
    import torch

    from warmstart.training.batches import BatchSource
    from warmstart.training.datasets import Rows, row_sizes

    settings = prepared.recipe.train
    if prepared.method.caches_features or prepared.task.head.gives_vectors:
        settings = settings.model_copy(update={"batch_tokens": None})
    rows = Rows(row_sizes(prepared.stores["train"]), torch.device("cpu"))
    seed, objective = prepared.recipe.seed, prepared.objective
    return BatchSource(rows, objective, settings, seed, rows=prepared.rows).length().steps


def _prepare_tasks(recipe: Recipe, source: Any) -> Prepared:
    """What stands in for `prepare` where each task names its own data."""
    from warmstart.pipelines.multitask.prepare import prepare_tasks

    return cast("Any", prepare_tasks(recipe, source))


def versions() -> dict[str, str]:
    """What the run was made with."""
    names = ("warmstart", "torch", "transformers", "tokenizers", "peft", "datasets", "numpy")
    numbers = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(Exception):
            numbers[name] = version(name)
    return numbers


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
        if type(error).__name__ == "Interrupted":
            raise type(error)(f"{error}; {go_on}") from None
        if isinstance(error, KeyboardInterrupt) and (run.path / "run.json").is_file():
            from warmstart.training.trainer import Interrupted

            raise Interrupted(f"interrupted before or after the training steps; {go_on}") from None
        if isinstance(error, RunError) and error.__cause__ is not None:  # disk full, read-only
            raise RunError(f"{error}; mend that, and {go_on}") from error
        raise


def stem(recipe: Recipe) -> str:
    """What a run is called that was given no name: after its data and its method."""
    task: Any = recipe.task
    source = task.part_name() if task.own_data else recipe.data.path or recipe.data.train or "data"
    return f"{Path(source).resolve().stem or 'data'}-{recipe.method.part_name()}"
