"""`predict` and `evaluate` with a saved model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warmstart.config.recipe import Recipe, engine_of, settings_of
from warmstart.data.ledger import place
from warmstart.errors import RunError, nearest
from warmstart.formatting import counted
from warmstart.inference.predictor import Predictor, open_predictor
from warmstart.part import OWN_HEAD, allow_named
from warmstart.pipelines.rows import labelled, parts_of, source_of
from warmstart.types import Prediction

if TYPE_CHECKING:
    from warmstart.tasks.base import Examples

Keys = Mapping[str, Any]


@dataclass
class _Tally:
    """How many texts, and the number of the first."""

    count: int = 0
    first: int = 0

    def add(self, number: int) -> None:
        self.first = self.first if self.count else number
        self.count += 1


@dataclass
class _Notes:
    """What is worth telling about the texts: those that are empty, those that were cut."""

    table: Any = None
    """The rows where they come from a file, which are called by file and line."""
    empty: _Tally = field(default_factory=_Tally)
    cut: _Tally = field(default_factory=_Tally)

    def set_table(self, table: pa.Table) -> None:
        """Name rows by file and line from here on."""
        self.table = table

    def see(self, texts: list[str | None], start: int) -> list[str]:
        """Count the empty ones of some texts, the first of which is number `start`."""
        for number, text in enumerate(texts, start):
            if not (text or "").strip():
                self.empty.add(number)
        return [text or "" for text in texts]

    def see_cut(self, number: int, tokens: int) -> None:
        """Count a text that was too long."""
        self.cut.add(number)

    def add_to(self, notes: list[str] | None, longest: int) -> None:
        """Append them in words."""
        for tally, what in (
            (self.empty, "no text: a label there means nothing"),
            (self.cut, f"more than {longest} tokens: only the beginning was read"),
        ):
            if tally.count and notes is not None:
                texts = counted(tally.count, "text has", "texts have")
                row = f"text {tally.first + 1}"
                row = row if self.table is None else place(self.table, tally.first)
                notes.append(f"{texts} {what} (first: {row})")


def answers(
    model: Path, data: Any, keys: Keys, notes: list[str] | None
) -> Iterator[tuple[str, Prediction]]:
    """See `api.answers`."""
    settings = _settings("predict", keys).data
    source = source_of(data)
    predictor = _open(model, keys)
    seen, start = _Notes(), 0
    for _, table in parts_of(source, settings, predictor, seen.set_table):
        texts = seen.see(predictor.task.as_text(table).to_pylist(), start)
        yield from zip(texts, predictor.answers(table, start, seen.see_cut), strict=True)
        start += len(table)
    seen.add_to(notes, predictor.task.max_length)


def label_file(model: Path, data: Any, out: Path, keys: Keys, notes: list[str] | None) -> int:
    """See `api.predict`: the rows go to `out` as they are labelled; returns their number."""
    from warmstart.pipelines.rows import Writer, check_out

    settings = _settings("predict", keys).data
    source = source_of(data)
    check_out(out, source)
    predictor = _open(model, keys)
    seen, done = _Notes(), 0
    with Writer(out) as writer:
        for rows, table in parts_of(source, settings, predictor, seen.set_table):
            seen.see(predictor.task.as_text(table).to_pylist(), done)
            outputs, examples = predictor.outputs(table, done, seen.see_cut)
            for name, column in predictor.task.labelled(outputs, examples).items():
                rows = rows.append_column(_free(name, rows.column_names), column)
            writer.write(rows)
            done += len(table)
    seen.add_to(notes, predictor.task.max_length)
    return done


def evaluate(model: Path, data: Any, out: Path | None, keys: Keys) -> dict[str, Any]:
    """See `api.evaluate`."""
    import pyarrow.parquet as pq

    from warmstart.evaluation.evaluate import evaluate as evaluate_task
    from warmstart.files import write_atomically, write_json
    from warmstart.run import why

    recipe = _settings("evaluate", keys)
    if out is not None:
        _check_empty(out)
    predictor = _open(model, keys)
    table = labelled(data, recipe.data, predictor)
    task = predictor.task.resolve_for_data(table)
    seen = _Notes(table)
    outputs, examples = _outputs(predictor, table, seen)
    evaluation = evaluate_task(
        recipe.evaluate, task, {"test": outputs}, {"test": examples}, seed=recipe.seed
    )
    seen.add_to(evaluation.metrics["notes"], predictor.task.max_length)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with write_atomically(out / "predictions.parquet") as part:
                pq.write_table(evaluation.predictions, part)
            write_json(out / "metrics.json", evaluation.metrics)
        except OSError as error:
            raise RunError(f"cannot write to {out}: {why(error)}; choose another --out") from error
    return evaluation.metrics


def _check_empty(out: Path) -> None:
    """Nothing that stands there is written over, least of all the results of a run."""
    if out.is_file():
        raise RunError(f"cannot write to {out}: it is a file; give --out a folder")
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} exists and is not empty; choose another --out")


def _outputs(predictor: Predictor, table: pa.Table, seen: _Notes) -> tuple[Any, Examples]:
    """As `Predictor.outputs`; the texts that were cut are noted, but not the texts that are
    wanted for them, which are scored whole."""
    task: Any = predictor.task
    if not task.head.generates:
        return predictor.outputs(table, 0, seen.see_cut)
    inputs = table.select([*task.inputs, "_file", "_line"])
    task.encode(inputs, predictor.labels, predictor.tokenizer, task.max_length, seen.see_cut)
    return predictor.outputs(table)


def _settings(verb: str, keys: Keys) -> Recipe:
    return settings_of(verb, {key: value for key, value in keys.items() if key != OWN_HEAD})


def _open(model: Path, keys: Keys) -> Predictor:
    allow_named(keys)
    engine = engine_of(keys)
    if not os.path.exists(model):
        siblings = [p.name for p in model.parent.iterdir()] if model.parent.is_dir() else []
        guess = nearest(model.name, [name for name in siblings if name[0] != "."])
        raise RunError(f"there is no run or model folder {model}.{guess or ' Check the path'}")
    return open_predictor(model, engine)


def _free(name: str, taken: list[str]) -> str:
    """`prediction`, or `prediction_2` where there is such a column already."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
