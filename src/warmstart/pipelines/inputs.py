"""What a saved model is asked: texts, rows or files, as tables of its task's inputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warmstart.data.ledger import Ledger, place
from warmstart.errors import DataError, RecipeError, nearest, shown
from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.data.settings import Data
    from warmstart.inference.torch import TorchPredictor
    from warmstart.tasks.base import Task

AT_ONCE, LIVE = 4096, 32  # rows; fewer where they come as they are written


def source_of(data: Any) -> Any:
    """A file, a list of texts, or an object; a string that is no file is a text.

    One that ends as the name of a data file does is taken for a file that is missing, unless it
    has a space, as in "see report.csv", and names no folder that exists.
    """
    from warmstart.data.readers import files

    if not isinstance(data, str | Path) or os.path.exists(data):
        return data
    known = files.FORMATS.keys() | files.PICKLES | files.SPREADSHEETS
    folder = os.path.dirname(data)
    sentence = len(str(data).split()) > 1 and not (folder and os.path.isdir(folder))
    if isinstance(data, Path) or (files.suffix(Path(data)) in known and not sentence):
        files.check_local(data)
        files.check_exists(Path(data))
    return [data]


def _are_rows(source: Any) -> bool:
    """Whether these are texts, or tuples or lists of them, rather than a table."""
    if isinstance(source, Iterator):
        return True
    return isinstance(source, list | tuple) and all(
        isinstance(item, str | tuple | list) for item in source
    )


def parts_of(
    source: Any,
    settings: Data,
    predictor: TorchPredictor,
    named: Callable[[pa.Table], None],
    *,
    every: bool = True,
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """All columns as they were, beside the task's inputs, a part at a time.

    `named` is told of the table of a file, whose rows have lines. Of a plain text file `every`
    line is a row as it stands, as of stdin; else those that hold something are.
    """
    from warmstart.inference.inputs import own_form

    task = predictor.task
    if isinstance(source, str | Path) or not _are_rows(source):
        raw, found = _rows(source, settings, predictor, every)
        named(raw)
        extra = [name for name in ("_file", "_line") if name in raw.column_names]
        for start in range(0, len(raw), AT_ONCE):
            part = found.slice(start, AT_ONCE)
            yield raw.slice(start, AT_ONCE).drop_columns(extra), own_form(task, part)
        return
    size = LIVE if isinstance(source, Iterator) else AT_ONCE
    rest = iter(source)
    while rows := list(islice(rest, size)):
        table = predictor.table([_record(task, row) for row in rows])
        yield table.select(list(task.inputs)), table


def _record(task: Task, row: Any) -> Any:
    """A row of a task with several inputs may come as JSON, as from a command line."""
    if len(task.inputs) == 1 or not isinstance(row, str):
        return row
    try:
        found = json.loads(row)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        example = json.dumps(dict.fromkeys(task.inputs, "…"), ensure_ascii=False)
        raise RecipeError(
            f"'{shown(row, 60)}' is one text, and this model is asked with "
            f"{' and '.join(task.inputs)}; give them as JSON: '{example}'"
        )
    return found


def _rows(
    data: Any, settings: Data, predictor: TorchPredictor, every: bool
) -> tuple[pa.Table, pa.Table]:
    """All columns as they were, and the task's inputs among them."""
    from warmstart.data.columns import map_roles

    task = predictor.task
    table = _plain(data, settings, task, every)
    table = _read(data, settings) if table is None else table
    columns = {role: name for role, name in settings.columns.items() if role in task.inputs}
    roles = {role: task.roles[role] for role in task.inputs}
    return table, map_roles(table, roles, columns, set(task.inputs), task.nested)


def _plain(data: Any, settings: Data, task: Task, every: bool) -> pa.Table | None:
    """The lines of a plain text file without header, each a text; None for anything else."""
    from warmstart.data.readers.text import has_header, is_plain, lines_of

    if not isinstance(data, str | Path) or not is_plain(Path(data)) or len(task.inputs) != 1:
        return None
    role = task.inputs[0]
    known = {role, *task.roles[role], *settings.columns.values()}
    if has_header(Path(data), known, settings.encoding):
        return None
    table = lines_of(Path(data), settings.encoding, settings.limit, every=every)
    return table.rename_columns([role if name == "text" else name for name in table.column_names])


def _read(data: Any, settings: Data) -> pa.Table:
    from warmstart.data.readers.read import read

    return read(
        data,
        delimiter=settings.delimiter,
        encoding=settings.encoding,
        limit=settings.limit,
        ledger=Ledger(),
    )


def labelled(data: Any, settings: Data, predictor: TorchPredictor) -> pa.Table:
    """The columns of every row, all of which the model can be scored on. Raises `DataError`."""
    from warmstart.data.columns import map_roles
    from warmstart.inference.inputs import own_form

    task, table = predictor.task, _read(_test_file(data), settings)
    needed = set(task.roles) if task.required is None else task.required
    table = map_roles(table, task.roles, settings.columns, needed, task.nested)
    if task.label is not None:
        labels = [(label or "").strip() for label in table[task.label].to_pylist()]
        at = table.column_names.index(task.label)
        column = pa.chunked_array([pa.array(labels, pa.string())])
        table = table.set_column(at, task.label, column)
    _check_filled(table, task)
    if task.label is not None:
        _check_known(table, task.label, predictor.labels)
    return own_form(task, table)


def _check_filled(table: pa.Table, task: Task) -> None:
    """Raise `DataError` where a row has no text or no label."""
    for role in (*task.texts, *([task.label] if task.label else [])):
        if role not in table.column_names:
            continue
        values = table[role].to_pylist()
        lost = [row for row, value in enumerate(values) if not str(value or "").strip()]
        if lost:
            raise DataError(
                f"{place(table, lost[0])}: no {role}; missing in {len(lost):,} of "
                f"{counted(len(table))}: fill in or delete"
            )


def _check_known(table: pa.Table, role: str, known: list[str]) -> None:
    """Raise `DataError` where a row has a label that the model does not know."""
    labels = table[role].to_pylist()
    strange = [row for row, label in enumerate(labels) if label not in set(known)]
    if strange:
        many = counted(len(strange), "row has a label", "rows have labels")
        more = f" ({many} that it does not know)"
        raise DataError(
            f"{place(table, strange[0])}: the model does not know the label "
            f"'{shown(labels[strange[0]])}'{more}.{nearest(labels[strange[0]], known)}"
        )


def _test_file(data: Any) -> Any:
    """The test file of a folder that has one; everything else as it is."""
    if isinstance(data, str | Path) and Path(data).is_dir():
        found = sorted(p for p in Path(data).glob("test.*") if p.is_file())
        if found:
            return found[0]
    return data
