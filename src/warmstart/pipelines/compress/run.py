"""`compress`: smaller models of a trained one, each a run, each proven against where it comes from.

begin (`compression/`) → learn (`tune` with the objective `task_distill`), or settle what needs no
training → try all beside the source (`pipelines/measuring/trials.py`) → one table, one page.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from warmstart.compression.base import Start
from warmstart.config.keys import nested
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError, RunError, typed
from warmstart.formatting import counted
from warmstart.inference.hosted import HostedPredictor, open_teacher
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.models.checks import headers, parameters
from warmstart.models.modules import parameters_of
from warmstart.part import allow_named
from warmstart.pipelines.compress.request import Origin, Wanted, opened, save_smaller, wanted
from warmstart.pipelines.compress.result import Compressed, finish_compression
from warmstart.pipelines.finish import finish, speed_of
from warmstart.pipelines.measuring.trials import Candidate, Measured, measure
from warmstart.pipelines.measuring.trials import Progress as OnProgress
from warmstart.pipelines.prepare import Prepared, prepare
from warmstart.pipelines.reading.rows import AsTrained, parts_of, source_of
from warmstart.pipelines.tune import tune
from warmstart.run import Run, check_writable, free_path, held, now, usable, versions
from warmstart.tasks.base import Examples
from warmstart.tasks.generation import TextTask
from warmstart.training.datasets import rows_for
from warmstart.training.memory import give_back_memory
from warmstart.training.precision import use_cores
from warmstart.training.progress import Interrupted, Progress
from warmstart.types import Listener

STARTS = ".starts"
"""The folder of what products begin with, which is gone at the end; where it is there, a call has
not come to its end."""


def compress(
    model: Path,
    data: Any,
    methods: Any,
    keys: Mapping[str, Any],
    out: Path | None,
    listeners: Sequence[Listener],
    progress: OnProgress,
) -> Compressed:
    """See `api.compress`."""
    allow_named(keys)
    products, rest = wanted(methods, keys)
    with opened(model, data) as origin:
        out = _folder(model, out)
        kept = {own.name: _kept(origin, own, rest, out) for own in products}
        plans = [(None, None) if kept[own.name] else _checked(origin, own, rest)
                 for own in products]  # fmt: skip
        table, facts = origin.rows(), _facts(origin, model)
        made = list[tuple[Wanted, Mapping[str, Any]]]()
        out.mkdir(parents=True, exist_ok=True)
        with held(out), _keeping(out, products, listeners):
            for number, (product, plan) in enumerate(zip(products, plans, strict=True), 1):
                if own := kept[product.name]:
                    _tell(listeners, f"{product.name} is there already, and is kept")
                else:
                    for listener in listeners:
                        listener.begin_run(product.name, number, len(products))
                    own = _made(origin, product, plan, rest, out, listeners)
                    give_back_memory()
                made.append((product, own))
            measured = _proven(origin, made, table, progress, out)
    return finish_compression(out, {**facts, "rows": len(table)}, made, measured)


def _proven(
    origin: Origin,
    made: Sequence[tuple[Wanted, Mapping[str, Any]]],
    table: pa.Table,
    progress: OnProgress,
    out: Path,
) -> list[Measured]:
    """What was measured of the source and of each product. Raises `RunError`."""
    candidates = [Candidate(origin.whole, name="the source")]
    for product, own in made:
        name, settings = product.part.computed_by(origin.shown)
        candidates.append(Candidate(Path(own["model"]), name, settings, product.name))
    calibration = origin.prepared.examples["validation"].table
    others = calibration if len(calibration) else None
    try:
        return measure(candidates, table, progress, others)
    except RunError as error:
        raise RunError(f"{error}; the products stand in {out} and are not proven") from error


@contextmanager
def _keeping(
    out: Path, products: Sequence[Wanted], listeners: Sequence[Listener]
) -> Iterator[None]:
    """Inside, products are made: what is finished stays when one of them cannot be, and the same
    command goes on there, also after one that was killed."""

    def tidy() -> None:
        for place in [out / product.name for product in products]:
            if not _is_finished(place):
                shutil.rmtree(place, ignore_errors=True)

    tidy()
    (out / STARTS).mkdir(exist_ok=True)
    try:
        yield
    except BaseException as error:
        shutil.rmtree(out / STARTS, ignore_errors=True)
        tidy()
        done = [place.name for place in sorted(out.iterdir()) if _is_finished(place)]
        text = "nothing of it is kept: run the command again"
        if done:
            text = f"kept in {out}: {', '.join(done)}; the same command with --out {typed(out)} "
            text += "goes on with the others"
        elif not any(out.iterdir()):
            out.rmdir()
        if isinstance(error, Interrupted | KeyboardInterrupt):
            what = str(error).partition(";")[0] or "interrupted"
            raise Interrupted(f"{what}; {text}") from None
        if done:
            _tell(listeners, text)
        raise
    shutil.rmtree(out / STARTS, ignore_errors=True)


def _tell(listeners: Sequence[Listener], text: str) -> None:
    for listener in listeners:
        listener.note(text)


def _is_finished(place: Path) -> bool:
    """Whether this is the folder of a product that is a run, and done."""
    if not (place / "run.json").is_file():
        return False
    run = Run(place)
    return run.status == "done" and "compression" in run.facts


def _kept(
    origin: Origin, product: Wanted, keys: Mapping[str, Any], out: Path
) -> Mapping[str, Any] | None:
    """What is known of a product that an interrupted call has finished, or None. Raises `RunError`
    where another product stands under its name."""
    place = out / product.name
    if product.part.is_form or not _is_finished(place):
        return None
    known = Run(place).facts["compression"]
    if {name: known.get(name) for name in ORIGIN} != _origin(origin, product, keys):
        raise RunError(
            f"{place} was made of another model or by other settings; choose another --out"
        )
    return _facts_of(Run(place), known["notes"], known["seconds"])


ORIGIN = ("source", "method", "settings", "keys")
"""What a product's run says of where it comes from."""


def _origin(origin: Origin, product: Wanted, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    settings, own = ({name: str(value) for name, value in table.items()}
                     for table in (product.settings, keys))  # fmt: skip
    return {"source": str(origin.folder), "method": product.method, "settings": settings,
            "keys": own}  # fmt: skip


def _facts_of(run: Run, notes: Sequence[str], seconds: float) -> Mapping[str, Any]:
    """What is known of a product that is a run."""
    return {
        "folder": str(run.path), "model": str(run.model), "is_run": True, "notes": [*notes],
        "parameters": parameters(headers(run.model)), "seconds": seconds,
    }  # fmt: skip


def plan_compression(
    model: Path, data: Any, methods: Any, keys: Mapping[str, Any], out: Path | None
) -> Mapping[str, Any]:
    """What `compress` would do; writes nothing."""
    allow_named(keys)
    products, rest = wanted(methods, keys)
    with opened(model, data) as origin:
        rows, table = list[dict[str, Any]](), origin.rows()
        for product in products:
            start, recipe = _checked(origin, product, rest)
            steps = _prepared(recipe, product, rest).steps() if recipe is not None else 0
            rows.append({
                "name": product.name, "method": product.method, "settings": product.settings,
                "parameters": None if start is None else parameters_of(start.model)["parameters"],
                "notes": [] if start is None else [*start.notes], "steps": steps,
                "allowed_loss": product.part.allowed_loss,
                "recipe": recipe if product.part.trains else None,
            })  # fmt: skip
        facts = _facts(origin, model)
        return {**facts, "rows": len(table), "out": str(_folder(model, out)), "products": rows}


def _folder(model: Path, out: Path | None) -> Path:
    """Where products go: the folder that is named, or `<run>-compressed` beside the run; one that
    is there is gone on with, where a call has not come to its end in it."""
    if out is None:
        own = model.parent if model.name == "model" and (model / "config.json").exists() else model
        out = free_path(f"{own.resolve().name}-compressed", own.parent)
    usable(out)
    if os.path.lexists(out):
        there = [*out.iterdir()] if out.is_dir() else [out]
        if not (out / STARTS).is_dir() and not all(map(_is_finished, there)):
            raise RunError(f"{out} exists already; choose another --out")
    check_writable(out)
    return out


Plan = tuple[Start | None, Recipe | None]
"""The smaller model before it learns (None: a base, or the same model in another form), and, where
it learns from a base, the recipe of that."""


def _checked(origin: Origin, product: Wanted, keys: Mapping[str, Any]) -> Plan:
    """Raise `RecipeError` where a product cannot be made, before anything is written."""
    part = product.part
    if part.is_form:
        part.check(origin.shown)
        return None, None
    part.check(origin.source())
    if part.hosted:
        _teacher(origin, product, None)
    if part.student:
        recipe = origin.recipe_for(part.student, None, keys, part.objective)
        prepare(recipe)
        return None, recipe
    start = part.begin(origin.source())
    recipe = origin.recipe_for(str(origin.whole), None, keys, part.objective)
    return start, recipe if part.trains else None


def _made(
    origin: Origin,
    product: Wanted,
    plan: Plan,
    keys: Mapping[str, Any],
    out: Path,
    listeners: Sequence[Listener],
) -> Mapping[str, Any]:
    """Make a product; returns what is known of it."""
    part, begun = product.part, time.perf_counter()
    if part.is_form:
        where = {"folder": str(origin.folder), "model": str(origin.whole), "is_run": False}
        return {**where, "parameters": None, "notes": [], "seconds": 0.0}
    start, place = plan[0], out / product.name
    base, notes = part.student, list[str]()
    if start is not None:
        base = str((out / STARTS / product.name).absolute())
        save_smaller(origin.predictor, start.model, start.tokenizer, Path(base))
        notes = [*start.notes]
    recipe = origin.recipe_for(base, place, keys, part.objective)
    if part.trains:
        ready = _prepared(recipe, product, keys)
        ready = ready if part.student else _come_from(origin, ready)
        if part.unlabelled:
            ready, more = _with_texts(origin, ready, product)
            notes += more
        run = tune(ready.recipe, prepared=ready, listeners=[*listeners])
    else:
        run = _settled(_come_from(origin, prepare(recipe)), Path(base))
    seconds = round(time.perf_counter() - begun, 1)
    own = {"notes": notes, "seconds": seconds}
    run.update(compression={**_origin(origin, product, keys), **own})
    return _facts_of(run, notes, seconds)


def _prepared(recipe: Recipe, product: Wanted, keys: Mapping[str, Any]) -> Prepared:
    """The rows and tokens to learn from, and for how long."""
    ready, times = prepare(recipe), product.part.times
    train, named = ready.recipe.train, nested(keys).get("train", {})
    if times == 1 or any(key in named for key in ("epochs", "max_steps", "tokens")):
        return ready
    epochs = times * (train.epochs or 1)
    patience = train.patience if "patience" in named else 0  # to the end of the schedule
    longer = {"epochs": epochs, "patience": patience}
    own = ready.recipe.model_copy(update={"train": train.model_copy(update=longer)})
    return replace(ready, recipe=own)


def _come_from(origin: Origin, ready: Prepared) -> Prepared:
    """The same, said of the source: what it begins with is gone at the end."""
    base, name = replace(ready.base, name=str(origin.folder)), {"base": str(origin.folder)}
    return replace(ready, base=base, recipe=ready.recipe.model_copy(update=name))


def _settled(ready: Prepared, start: Path) -> Run:
    """A run of a model that needs no training: evaluated, proven, with a report."""
    recipe, predictor = ready.recipe, open_predictor(start)
    outputs = {name: _outputs(predictor, ready, name) for name in ("test", "validation")}
    own = ready.recipe.evaluate.model_copy(
        update={} if not predictor.task.head.gives_vectors else {"baselines": False}
    )
    ready = replace(
        ready, recipe=ready.recipe.model_copy(update={"task": predictor.task, "evaluate": own})
    )
    threads = use_cores()
    facts = {**ready.facts(), "created": now(), "versions": versions(), "threads": threads}
    run = Run.create(Path(str(recipe.out)), ready.recipe, facts)
    shutil.copytree(start, run.model)
    ready.ledger.write(run.path)
    device, precision = recipe.train.device, recipe.train.precision
    speed = speed_of(Progress(), 0.0, device, precision, threads)
    count = parameters(headers(run.model))
    finish(run, ready, Progress(), outputs, speed, {"parameters": count, "trainable": 0})
    return run


def _outputs(predictor: Predictor, ready: Prepared, name: str) -> Any:
    """What the model gives for a split; of one that writes as many texts as a run's evaluation
    looks at."""
    store, head, runner = ready.stores[name], predictor.task.head, predictor.runner
    if not head.generates:
        return predictor.compute(store)
    own: Any = runner
    shown = {"test": getattr(predictor.task, "test_texts", None), "validation": 0}
    rows = rows_for(head, store, own.forward, own.pad_id, writes=shown[name])
    return rows.predict(own.forward)


def _teacher(origin: Origin, product: Wanted, rows: pa.Table | None) -> Predictor:
    """Whose word is taken for texts without labels: the source's, or a hosted model's, which is
    shown some `rows` that have labels. Raises `WarmstartError` where that cannot be asked."""
    own = origin.predictor
    if not product.part.hosted:
        return own
    return open_teacher(product.part.hosted, product.engine, own.task, own.labels, rows)


def _with_texts(origin: Origin, ready: Prepared, product: Wanted) -> tuple[Prepared, list[str]]:
    """The rows with more texts to learn from, for which the teacher says what is right; and notes
    of it."""
    task, train, texts = ready.task, ready.examples["train"], product.part.unlabelled
    teacher = _teacher(origin, product, train.table)
    reader = AsTrained(ready.recipe.data, origin.predictor)
    parts = [inputs for _, inputs in parts_of(source_of(Path(texts)), reader, lambda _: None)]
    more, dropped = pa.concat_tables(parts, promote_options="default"), list[str]()
    if isinstance(teacher, HostedPredictor):
        shows = teacher.source is not None and teacher.engine.shots
        teacher.host.announce("the texts, and some labelled rows," if shows else "the texts")
    count, answers = len(more), teacher.answers(more)
    if task.label is None:
        more = cast("TextTask", task).answered(more, answers)
    else:
        labels = [str(answer.value) for answer in answers]
        more = more.append_column(task.label, pa.array(labels, pa.string()))
        more = more.filter(np.isin(labels, ready.labels))
    more = task.usable(more, ready.tokenizer, lambda _, reason: dropped.append(reason))
    columns = [name for name in train.table.column_names if name in more.column_names]
    schema = train.table.select(columns).schema
    own = [train.table.select(columns), more.select(columns).cast(schema)]
    table = pa.concat_tables([part.combine_chunks() for part in own])
    store = task.encode(table, ready.labels, ready.tokenizer, task.max_length)
    if not np.array_equal(store.targets[: len(train)], train.store.targets[: len(train)]):
        raise RecipeError("compress.texts does not go with these rows; leave it out")
    examples = {**ready.examples, "train": Examples(table, store, ready.labels, ready.tokenizer)}
    whose = "by the teacher's word" if not product.part.hosted else f"as {product.part.hosted} says"
    notes = [f"learns from {counted(len(more), 'more text')} of {texts}, {whose}"]
    if lost := count - len(more):
        notes.append(f"{counted(lost, 'text')} had no answer that could be learned")
    notes += teacher.notes()
    for note in notes:
        ready.ledger.note("texts", note)
    return replace(ready, examples=examples, rows=np.arange(len(table))), notes


def _facts(origin: Origin, model: Path) -> Mapping[str, Any]:
    """Of the source, as the summary has it."""
    task = origin.predictor.task
    main = task.main_score
    title = task.metric_titles.get(main) or main.replace("_", " ")
    loaded: Any = origin.predictor.runner.model  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "created": now(), "task": task.part_name(), "main": main, "title": title,
        "source": {"folder": str(model), "model": str(origin.folder),
                   "parameters": parameters_of(loaded)["parameters"]},
    }  # fmt: skip
