"""`predict` with a saved model; `pipelines.compare.evaluate` opens one in the same way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from warmstart.config.recipe import Recipe
from warmstart.data.tokens.lost import TextNotes
from warmstart.errors import RunError, nearest
from warmstart.inference.hosted import open_hosted
from warmstart.inference.openai import is_hosted
from warmstart.inference.predictor import Instead, Predictor, open_predictor
from warmstart.models.base import is_base, resolve
from warmstart.part import OWN_HEAD, allow_named
from warmstart.pipelines.reading.rows import (
    AsTrained,
    Writer,
    check_out,
    parts_of,
    source_of,
)
from warmstart.pipelines.request import engine_for, engine_of, settings_of, task_of
from warmstart.types import Prediction

if TYPE_CHECKING:
    pass

Keys = Mapping[str, Any]


def answers(
    model: Path, data: Any, keys: Keys, notes: list[str] | None
) -> Iterator[tuple[str, Prediction]]:
    """See `api.answers`."""
    for part in _parts(model, data, keys, notes):
        answers = part.predictor.answers(part.inputs, part.start, seen=part.seen)
        yield from zip(part.texts, answers, strict=True)


def label_file(model: Path, data: Any, out: Path, keys: Keys, notes: list[str] | None) -> int:
    """See `api.predict`: the rows go to `out` as they are labelled; returns their number."""
    done = 0
    with Writer(out) as writer:
        for part in _parts(model, data, keys, notes, out):
            outputs, examples = part.predictor.outputs(part.inputs, part.start, seen=part.seen)
            rows = part.rows
            for name, column in part.predictor.task.labelled(outputs, examples).items():
                rows = rows.append_column(_free(name, rows.column_names), column)
            writer.write(rows)
            done += len(rows)
    return done


class _Part(NamedTuple):
    """Some rows, and what answers them."""

    predictor: Predictor
    rows: pa.Table
    inputs: pa.Table
    texts: list[str]
    start: int
    """The number of the first of them."""
    seen: TextNotes


def _parts(
    model: Path, data: Any, keys: Keys, notes: list[str] | None, out: Path | None = None
) -> Iterator[_Part]:
    """The rows of a request, a part at a time; `notes` is complete when the last one was read."""
    settings = settings_for("predict", keys, hosted=is_hosted(model)).data
    source = source_of(data)
    if out is not None:
        check_out(out, source)
    predictor = opened(model, keys, [model])
    seen, start, reader = TextNotes(), 0, AsTrained(settings, predictor)
    for rows, inputs in parts_of(source, reader, seen.set_table):
        texts = seen.see(predictor.task.as_text(inputs).to_pylist(), start)
        yield _Part(predictor, rows, inputs, texts, start, seen)
        start += len(inputs)
    seen.add_to(notes, predictor.task.max_length, predictor.task.when_cut)
    if notes is not None:
        notes += [*reader.notes, *predictor.notes()]


def settings_for(verb: str, keys: Keys, *, hosted: bool = False) -> Recipe:
    own = {OWN_HEAD} | {key for key in task_keys(keys) if verb == "evaluate" or hosted}
    return settings_of(verb, {key: value for key, value in keys.items() if key not in own})


def task_keys(keys: Keys) -> Keys:
    """The keys that say how a language model is asked."""
    return {key: value for key, value in keys.items()
            if key.partition(".")[0] == "task" and key != OWN_HEAD}  # fmt: skip


def opened(
    model: Path,
    keys: Keys,
    models: Sequence[object],
    instead: Instead | None = None,
    columns: Callable[[], Sequence[str] | None] = lambda: None,
) -> Predictor:
    allow_named(keys)
    engine = engine_of(keys, models)
    engine = engine_for(engine, model) if len(models) > 1 else engine
    if is_hosted(model):
        return open_hosted(str(model), engine, task_of(task_keys(keys)), columns() or ())
    if instead is not None and is_base(str(model)):
        model = resolve(str(model)).path
    if not os.path.exists(model):
        siblings = [p.name for p in model.parent.iterdir()] if model.parent.is_dir() else []
        guess = nearest(model.name, [name for name in siblings if name[0] != "."])
        raise RunError(f"there is no run or model folder {model}.{guess or ' Check the path'}")
    return open_predictor(model, engine, instead)


def _free(name: str, taken: list[str]) -> str:
    """`prediction`, or `prediction_2` where there is such a column already."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
