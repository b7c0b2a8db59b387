"""Several stages in one request: extend a tokenizer, pretrain, tune, align, one after another.

A folder holds what each stage made, in a folder of its name, and `stages.json`. All stages are
checked before the first one begins; a stage that is done is never done again, and one that was
stopped or killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.errors import RecipeError, RunError, typed
from warmstart.files import read_json, write_atomically, write_json, write_text
from warmstart.pipelines import tokenizers
from warmstart.pipelines.compare.result import Comparison, is_comparison
from warmstart.pipelines.stages.recipe import (
    EXTEND,
    Stage,
    extension_of,
    named,
    parted,
    read_stages,
)
from warmstart.pipelines.stages.result import (
    RECORD,
    Stages,
    along_the_way,
    as_facts,
    judged,
    markdown,
    row_of,
)
from warmstart.run import check_free, check_writable, held, now
from warmstart.types import Listener

RECIPE = "recipe.toml"


@dataclass(frozen=True, slots=True)
class Verb:
    """What a verb does, and what says what it would do; both as in `warmstart.api`."""

    run: Callable[..., Any]
    plan: Callable[..., dict[str, Any]]


def run_stages(
    file: str | Path | None,
    verbs: Mapping[str, Verb],
    *,
    out: str | Path | None = None,
    resume: Path | None = None,
    listeners: Sequence[Listener] = (),
) -> Stages:
    """Carry out the stages of a recipe file, or go on with a folder of them; one that is done is
    returned. Raises `WarmstartError`; nothing is written before every stage is known to be
    possible."""
    stages, place = _requested(file, verbs, out, resume)
    if resume is not None and Stages(resume).summary["status"] == "done":
        return Stages(resume)
    plan_all(stages, verbs, place)
    if resume is None:
        place.mkdir(parents=True, exist_ok=True)
        write_text(place / RECIPE, Path(str(file)).read_text(encoding="utf-8-sig"))
        _record(place, name=place.name, created=now(), began_in=os.getcwd(),
                stages=[{"name": stage.name, "verb": stage.verb} for stage in stages])  # fmt: skip
    with held(place), _telling(place):
        for number, stage in enumerate(stages, 1):
            if not is_done(stage, place):
                for listener in listeners:
                    listener.begin_run(f"stage {stage.name}", number, len(stages))
                with named(stage, place):
                    _carry_out(stage, stages, place, verbs, listeners)
        rows = along_the_way([row_of(stage, place) for stage in stages], place)
        trained = [stage.name for stage in stages if stage.verb != EXTEND]
        _record(place, rows=as_facts(rows), verdicts=judged(trained, place))
        write_text(place / "summary.md", markdown(Stages(place).summary))
    return Stages(place)


def plan_stages(
    file: str | Path | None,
    verbs: Mapping[str, Verb],
    *,
    out: str | Path | None = None,
    resume: Path | None = None,
) -> dict[str, Any]:
    """What `run_stages` would do: the plan of every stage; writes nothing."""
    stages, place = _requested(file, verbs, out, resume)
    return {"out": str(place), "stages": plan_all(stages, verbs, place)}


def plan_all(
    stages: Sequence[Stage], verbs: Mapping[str, Verb], place: Path
) -> list[dict[str, Any]]:
    """The plan of each stage. Raises `WarmstartError` that names the stage which cannot be.

    What a stage will have made is not there yet: in its place stands what the stage begins with,
    whose shape and tokenizer it has, but for the words of an extended tokenizer.
    """
    plans: list[dict[str, Any]] = []
    bases: dict[str, str] = {}
    for stage in stages:
        with named(stage, place):
            if is_done(stage, place):
                plan: dict[str, Any] = {"done": True}
                bases[stage.name] = _made(stage, place)
            else:
                settings = stage.keys(bases)
                base = str(settings.get("base", "minilm"))
                if stage.verb == EXTEND:
                    plan = tokenizers.plan_extension(base, **extension_of(stage, settings))
                else:
                    recipe, keys = parted(settings)
                    plan = verbs[stage.verb].plan(stage.data, recipe=recipe, **keys)
                bases[stage.name] = str(plan.get("base_path", base))
        plans.append({"name": stage.name, "verb": stage.verb, "begins_with": stage.base, **plan,
                      "out": str(place / stage.name)})  # fmt: skip
    return plans


def is_done(stage: Stage, place: Path) -> bool:
    """Whether a stage has come to its end."""
    path = place / stage.name
    if stage.verb == EXTEND:
        return (path / "extension.json").is_file()
    record = path / ("comparison.json" if is_comparison(path) else "run.json")
    return _is_whole(record) and read_json(record).get("status") == "done"


def _carry_out(
    stage: Stage,
    stages: Sequence[Stage],
    place: Path,
    verbs: Mapping[str, Verb],
    listeners: Sequence[Listener],
) -> None:
    """Begin a stage, or go on with it."""
    path = place / stage.name
    settings = stage.keys({s.name: _made(s, place) for s in stages[: stages.index(stage)]})
    if stage.verb == EXTEND:
        with write_atomically(path) as part:
            base, keys = str(settings.get("base", "minilm")), extension_of(stage, settings)
            facts = tokenizers.extend(base, out=part / "model", **keys)
            write_json(part / "extension.json", {**facts, "out": str(path / "model")})
        return
    verb = verbs[stage.verb]
    if is_comparison(path) or _is_whole(path / "run.json"):
        verb.run(stage.source, resume=path, listeners=listeners)
        return
    shutil.rmtree(path, ignore_errors=True)  # of a process that was killed while it made it
    recipe, keys = parted(settings)
    verb.run(stage.data, recipe=recipe, listeners=listeners, out=str(path), **keys)


def _made(stage: Stage, place: Path) -> str:
    """What later stages begin with."""
    path = place / stage.name
    if stage.verb == EXTEND:
        return str(path / "model")
    return str(Comparison(path).chosen.path if is_comparison(path) else path)


def _requested(
    file: str | Path | None, verbs: Mapping[str, Verb], out: Any, resume: Path | None
) -> tuple[list[Stage], Path]:
    """The stages that are meant, and their folder. Raises `RecipeError` and `RunError`."""
    if resume is None:
        stages, place = read_stages(file, verbs, out)
        if (place / RECORD).is_file():
            raise RunError(
                f"{place} exists already; go on with it: warmstart run --resume {typed(place)}, or "
                "choose another --out"
            )
        check_free(place)
        check_writable(place)
        return stages, place
    if file is not None or out is not None:
        besides = "the recipe file" if file is not None else "--out"
        raise RecipeError(f"--resume goes on with the recipe in the folder; leave out {besides}")
    began = Stages(resume).summary.get("began_in")
    if isinstance(began, str) and os.path.isdir(began) and not os.path.samefile(began, "."):
        raise RunError(
            f"cannot go on with {resume} from here: its paths are those of the folder in which it "
            f"began; go there first: cd {typed(began)}"
        )
    return read_stages(resume / RECIPE, verbs)[0], resume


def _is_whole(path: Path) -> bool:
    """Whether a record is there and was written to its end."""
    with contextlib.suppress(OSError, ValueError):
        return isinstance(read_json(path), dict)
    return False


def _record(place: Path, **facts: Any) -> None:
    path = place / RECORD
    write_json(path, {**(Stages(place).summary if path.is_file() else {}), **facts})


@contextlib.contextmanager
def _telling(place: Path) -> Iterator[None]:
    """The record says how it ended."""
    _record(place, status="running", reason="")
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(Exception):
            _record(place, status="stopped", reason=f"{type(error).__name__}: {error}"[:300])
        raise
    _record(place, status="done")
