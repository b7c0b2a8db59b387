"""Which task a saved model answers, and rows as that task's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart import part as parts
from warmstart.data.ledger import place
from warmstart.data.tables import pc, torn
from warmstart.errors import DataError, RunError
from warmstart.models.checks import note_of, read_json
from warmstart.models.heads import CLASSES, HEADS, head_of
from warmstart.models.saving import read_modules

if TYPE_CHECKING:
    import pyarrow as pa

    from warmstart.tasks.base import Task

FOREIGN: Mapping[str, Mapping[str, Any]] = {"tagging": {"constrained": False}}
"""What holds for a model trained elsewhere: IOB1 cannot be told from IOB2 by the labels."""


def task_of(folder: Path, longest: int) -> Task:
    """The task of a saved model; texts may have `longest` tokens. Raises `RunError`."""
    note = note_of(folder)
    saved = dict(note.get("task") or {})
    name = saved.pop("name", None)
    if name is None:
        known = head_of(read_json(folder / "config.json")) if _has(folder) else None
        name = (HEADS.get(str(note.get("head"))) or known or CLASSES).task
        saved = read_modules(folder) if name == "embedding" else FOREIGN.get(name, {})
    if name not in parts.names("task"):
        raise RunError(f"{folder} was trained for the task '{name}', which is not known here")
    task: Any = parts.find("task", name)
    made = task.model_validate({**saved, "max_length": longest})
    return (
        made.resolve_for_base(read_json(folder / "config.json"), longest) if _has(folder) else made
    )


def table_of(task: Task, rows: Sequence[Any]) -> pa.Table:
    """Rows (texts, dicts or tuples) as a table of the task's inputs in its own form."""
    import pyarrow as pa

    roles = task.inputs
    columns: dict[str, list[Any]] = {role: [] for role in roles}
    for number, row in enumerate(rows):
        for role, value in zip(roles, _values(roles, row, number), strict=True):
            if isinstance(value, list | tuple) and role not in task.nested:
                raise DataError(f"row {number + 1}: {role} is a list; give one text")
            if role not in task.nested and not isinstance(value, str | None):
                kind = type(value).__name__
                raise DataError(f"row {number + 1}: {role} is of type {kind}; give a text")
            columns[role].append(value)
    arrays: dict[str, Any] = {}
    for role, values in columns.items():
        kind = None if role in task.nested and values else pa.string()
        try:
            arrays[role] = pa.chunked_array([pa.array(values, kind)])
        except UnicodeEncodeError:
            raise torn(values, lambda row, role=role: f"row {row + 1}: {role}") from None
    place = pa.DictionaryArray.from_arrays(pa.array([0] * len(rows), pa.int32()), ["row"])
    table = pa.table({**arrays, "_file": place, "_line": pa.array(range(1, len(rows) + 1))})
    return own_form(task, table)


def own_form(task: Task, table: pa.Table) -> pa.Table:
    """A table of the task's inputs as `Task.rows` makes it; no row may be lost, and a text that is
    missing, as in JSON and Parquet, is an empty one, as in CSV."""

    def refuse(row: int, reason: str) -> None:
        raise DataError(f"{place(table, row)}: {reason}; mend or delete the row")

    return task.rows(_filled(task, table), refuse)


def _filled(task: Task, table: pa.Table) -> pa.Table:
    import pyarrow as pa

    for role in set(task.inputs) - set(task.nested):
        column = table[role]
        if column.null_count and pa.types.is_string(column.type):
            at = table.column_names.index(role)
            table = table.set_column(at, role, pc.fill_null(column, ""))
    return table


def _values(roles: Sequence[str], row: Any, number: int) -> Sequence[Any]:
    """The inputs of one row, in the order of the roles."""
    if isinstance(row, Mapping):
        if missing := [role for role in roles if role not in row]:
            raise DataError(f"row {number + 1} has no {missing[0]}; it needs {', '.join(roles)}")
        return [row[role] for role in roles]
    if len(roles) == 1:
        return [row]
    if isinstance(row, str) or len(row) != len(roles):
        raise DataError(
            f"row {number + 1}: this model is asked with {' and '.join(roles)}; give a dict of "
            f"them or a tuple in this order"
        )
    return list(row)


def _has(folder: Path) -> bool:
    return (folder / "config.json").exists()
