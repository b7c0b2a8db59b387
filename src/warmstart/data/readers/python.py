"""Tables that already live in Python: pandas, `datasets`, Arrow and lists of dictionaries.

They are told apart by the module of their class, so that naming them imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from warmstart.data.tables import (
    CHUNK,
    as_text,
    check_names,
    concatenate,
    freed,
    objects_to_table,
    torn,
)
from warmstart.errors import DataError, RecipeError, shown

ACCEPTED = (
    "a path, a pandas DataFrame, a datasets.Dataset or DatasetDict, a pyarrow.Table, or a list of "
    "dictionaries"
)


def kind_name(source: Any) -> str:
    """What an object is called in messages and in `_file`."""
    return f"<{type(source).__name__}>"


def read_object(source: Any, limit: int | None) -> pa.Table:
    """The object as a table. Raises RecipeError for a type that is not known, DataError for one
    whose contents are not a table."""
    file = kind_name(source)
    library = type(source).__module__.partition(".")[0]
    if isinstance(source, pa.Table):
        table = source
    elif library == "pandas" and hasattr(source, "columns"):
        table = _from_pandas(file, source)
    elif library == "datasets" and hasattr(source, "with_format"):
        table = _from_dataset(source)
    elif isinstance(source, list | tuple):
        table = _from_rows(file, source)
    else:
        raise RecipeError(f"data of type {type(source).__name__} are not read; give {ACCEPTED}")
    if not isinstance(source, list | tuple):
        table = freed(table)
    return table if limit is None else table.slice(0, limit)


def _from_pandas(file: str, frame: Any) -> pa.Table:
    names = [str(name) for name in frame.columns]
    check_names(file, names)
    arrays = [_series(file, name, frame.iloc[:, i]) for i, name in enumerate(names)]
    return pa.table(arrays, names=names)


def _series(file: str, name: str, values: Any) -> pa.ChunkedArray:
    try:
        array = pa.array(values, from_pandas=True)
    except UnicodeEncodeError:
        where = f"column '{shown(name)}'"
        raise torn(values.tolist(), lambda row: f"{file}:{row + 1}: {where}") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        array = pa.array([as_text(value) for value in values.tolist()], pa.string())
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _from_dataset(data: Any) -> pa.Table:
    if not hasattr(data, "__len__"):
        raise RecipeError("a streaming data set cannot be split; load it without streaming=True")
    if not len(data):
        raise DataError(f"{kind_name(data)} has no rows; give some")
    tables = list(data.with_format("arrow").iter(batch_size=CHUNK))
    metadata = data.features.arrow_schema.metadata
    return concatenate(tables).replace_schema_metadata(metadata)


def _from_rows(file: str, rows: list[Any] | tuple[Any, ...]) -> pa.Table:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{file}:{number}: {shown(row, 30)} is not a dictionary; each row must look like "
                "{'text': ..., 'label': ...}"
            )
    named = ((i, {str(key): row[key] for key in row}) for i, row in enumerate(rows, 1))
    return objects_to_table(file, named)
