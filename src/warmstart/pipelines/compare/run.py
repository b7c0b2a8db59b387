"""`tune` with several methods or seeds: the same rows and tokens, one run each, one comparison.

A comparison is a folder: a whole run folder for each method and seed, `comparison.json` with what
was asked and what came of it, and `comparison.html` to be read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart.config.toml import toml_table
from warmstart.errors import RunError, WarmstartError, typed
from warmstart.files import write_json
from warmstart.pipelines.compare.plan import (
    check_same_data,
    is_done,
    place,
    prepare_all,
    rehearse_several,
    resumed,
)
from warmstart.pipelines.compare.request import Wanted, wanted
from warmstart.pipelines.compare.result import Comparison, conclude
from warmstart.pipelines.prepare import Prepared
from warmstart.pipelines.request import Request
from warmstart.pipelines.resources import Meter
from warmstart.pipelines.tune import tune
from warmstart.run import now, read_json
from warmstart.training.trainer import Interrupted, Listener

if TYPE_CHECKING:
    from collections.abc import Iterator


class RunListener(Listener):
    """A listener that is also told which run of a comparison begins."""

    def begin(self, name: str, number: int, of: int) -> None:
        """Before each run; `number` counts from 1."""


def tune_asked(request: Request, listeners: Sequence[Listener] = ()) -> Comparison:
    """Begin a comparison or go on with one; one that is done is returned."""
    if request.resume is None:
        return tune_several(wanted(*request.layers()), request.source, listeners=listeners)
    request.check_nothing_besides()
    found = Comparison(request.resume)
    if found.summary["status"] == "done":
        return found
    asked = resumed(found.path)
    request.check_source(asked[0].recipe, found.summary)
    return tune_several(asked, request.source, resume=found.path, listeners=listeners)


def rehearse_asked(request: Request) -> dict[str, Any]:
    """What `tune_asked` would do; see `api.plan`."""
    if request.resume is None:
        return rehearse_several(wanted(*request.layers()), request.source)
    request.check_nothing_besides()
    out = Path(request.resume)
    request.check_place(resumed(out)[0].recipe, Comparison(out).summary)
    return rehearse_several(resumed(out), request.source, out=out)


def tune_several(
    asked: Sequence[Wanted],
    source: Any = None,
    *,
    resume: Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Comparison:
    """Run every one and compare them. Raises `WarmstartError`; before the first weight moves, and
    before anything is written, all of them are known to be possible.

    A run that fails by itself (its loss is no number, its memory is not enough) is told and left
    out; with `resume` what is done is kept, and the rest goes on.
    """
    out = resume or place(asked)
    prepared = prepare_all(asked, source)
    if resume is None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, asked, status="running", created=now(), began_in=os.getcwd())
    check_same_data(out, asked, prepared)
    meter = Meter(prepared[0].recipe.train.device)
    if any(ready.method.saves_adapter for ready in prepared):
        import peft  # noqa: F401  # its own size is not that of the first run which needs it
    failed: dict[str, str] = {}
    with _telling(out, asked):
        for number, (one, ready) in enumerate(zip(asked, prepared, strict=True), 1):
            path = out / one.name
            if is_done(path):
                continue
            for listener in listeners:
                if isinstance(listener, RunListener):
                    listener.begin(one.name, number, len(asked))
            if reason := _run(path, ready, source, [*listeners, meter], meter):
                failed[one.name] = reason
        return conclude(out, asked, prepared[0], failed, meter)


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
def _telling(out: Path, asked: Sequence[Wanted]) -> Iterator[None]:
    """The status says how it ended; errors name the comparison to go on with, not the run."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            _write(out, asked, status="stopped", reason=f"{type(error).__name__}: {error}"[:300])
        if isinstance(error, WarmstartError):
            text = str(error)
            for one in asked:
                text = text.replace(f"--resume {typed(out / one.name)}", f"--resume {typed(out)}")
            raise type(error)(text) from error.__cause__
        raise


def _write(out: Path, asked: Sequence[Wanted], **facts: Any) -> None:
    """`comparison.json` before there is a result: what was asked."""
    path = out / "comparison.json"
    known = read_json(path) if path.exists() else {}
    runs = [
        {"name": one.name, "method": one.method, "recipe": toml_table(one.recipe)} for one in asked
    ]
    write_json(path, {**known, "name": out.name, **facts, "asked": runs})
