"""Objects of Python as tables; known by their kind, so that no library is imported for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from warmstart.data.cells import as_text
from warmstart.data.readers.exports import spacy_row
from warmstart.data.readers.jsonl import questions_apart
from warmstart.data.tables import (
    CHUNK,
    check_names,
    concatenate,
    freed,
    objects_to_table,
    torn,
)
from warmstart.errors import DataError, RecipeError, shown
from warmstart.formatting import counted

ACCEPTED = (
    "a path or several, a pandas or polars DataFrame, a datasets.Dataset or DatasetDict, a "
    "pyarrow.Table, a list of dictionaries, a dictionary of columns, or (texts, labels)"
)
SPLIT_NAMES = ("train", "validation", "valid", "val", "dev", "test")


def kind_name(source: Any) -> str:
    """What an object is called in messages and in `_file`."""
    return f"<{type(source).__name__}>"


def is_columns(source: Mapping[Any, Any]) -> bool:
    """Whether a mapping has columns of values, not splits."""
    names = {str(name).lower() for name in source}
    return bool(names) and not names & set(SPLIT_NAMES) and all(map(is_series, source.values()))


def is_series(values: Any) -> bool:
    """Whether these are values one after the other: a list, a Series, an array of one axis."""
    if isinstance(values, list | tuple):
        return True
    named = hasattr(values, "tolist") or (hasattr(values, "to_list") and hasattr(values, "dtype"))
    return named and getattr(values, "ndim", 1) == 1


def read_object(source: Any, limit: int | None) -> pa.Table:
    """The object as a table.

    Raises RecipeError for a type that is not known, DataError for one whose contents are not a
    table."""
    file = kind_name(source)
    library = type(source).__module__.partition(".")[0]
    if isinstance(source, tuple) and _is_pair(source):
        table = _from_pair(file, *source)
    elif isinstance(source, list | tuple):
        return _from_rows(file, source).slice(0, limit)
    elif isinstance(source, pa.Table):
        table = source
    elif isinstance(source, Mapping):
        table = _from_columns(file, source)
    elif library == "pandas" and hasattr(source, "columns"):
        table = _from_pandas(file, source)
    elif library == "datasets" and hasattr(source, "with_format"):
        table = _from_dataset(source)
    elif hasattr(source, "collect_schema") and hasattr(source, "collect"):  # a lazy frame of polars
        return read_object(source.collect(), limit)
    elif hasattr(source, "__arrow_c_stream__") and hasattr(source, "columns"):
        table = pa.table(source)
    elif is_series(source):
        table = _from_columns(file, {"text": source})
    else:
        raise RecipeError(f"data of type {type(source).__name__} are not read; give {ACCEPTED}")
    return freed(table).slice(0, limit)


def _is_pair(source: tuple[Any, ...]) -> bool:
    """Whether this is (X, y), and not two rows."""
    if len(source) != 2 or any(isinstance(part, str | Mapping) for part in source):
        return False
    x, y = source
    return is_series(y) and (is_series(x) or hasattr(x, "columns"))


def _from_pair(file: str, x: Any, y: Any) -> pa.Table:
    """Texts, or a table of them, and the label of each row."""
    if len(x) != len(y):
        raise DataError(
            f"{file}: {counted(len(x), 'text')} and {counted(len(y), 'label')}; give as many of "
            "the one as of the other"
        )
    if is_series(x):
        return _from_columns(file, {"text": x, "label": y})
    return read_object(x, None).append_column("label", _array(file, "label", y))


def _from_columns(file: str, columns: Mapping[Any, Any]) -> pa.Table:
    names = [str(name) for name in columns]
    check_names(file, names)
    sizes = {name: len(values) for name, values in zip(names, columns.values(), strict=True)}
    if len(set(sizes.values())) > 1:
        listing = ", ".join(f"{shown(name, 30)}: {n:,}" for name, n in sizes.items())
        raise DataError(f"{file}: the columns have different numbers of values ({listing})")
    return pa.table(
        [_array(file, name, own) for name, own in zip(names, columns.values(), strict=True)], names
    )


def _from_pandas(file: str, frame: Any) -> pa.Table:
    names = [str(name) for name in frame.columns]
    check_names(file, names)
    arrays = [_array(file, name, frame.iloc[:, i]) for i, name in enumerate(names)]
    return pa.table(arrays, names=names)


def _array(file: str, name: str, values: Any) -> Any:
    """Values of one column; those of a kind that Arrow lacks, such as periods, as text."""
    if str(getattr(values, "dtype", "")).startswith("Sparse["):
        values = np.asarray(values)
    try:
        array: Any = pa.array(values, from_pandas=True)
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if not isinstance(kind, pa.BaseExtensionType):
            return array
    except UnicodeEncodeError:
        where = lambda row: f"{file}:{row + 1}: column '{shown(name)}'"  # noqa: E731
        raise torn(listed(values), where) from None
    except (pa.ArrowException, TypeError, ValueError):
        pass
    return pa.array([as_text(value) for value in listed(values)], pa.string())


def listed(values: Any) -> list[Any]:
    """Values one after the other, of a Series or an array too, as a list."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _from_dataset(data: Any) -> pa.Table:
    if not hasattr(data, "__len__"):
        raise RecipeError("a streaming data set cannot be split; load it without streaming=True")
    if not len(data):
        raise DataError(f"{kind_name(data)} has no rows; give some")
    tables = list(data.with_format("arrow").iter(batch_size=CHUNK))
    metadata = data.features.arrow_schema.metadata
    return concatenate(tables).replace_schema_metadata(metadata)


def _from_rows(file: str, rows: list[Any] | tuple[Any, ...]) -> pa.Table:
    rows = [row if isinstance(row, Mapping) else spacy_row(row) or row for row in rows]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"{file}:{number}: {shown(row, 30)} is not a dictionary; each row must look like "
                "{'text': ..., 'label': ...}"
            )
    named = ((i, {str(key): row[key] for key in row}) for i, row in enumerate(rows, 1))
    return objects_to_table(file, questions_apart(file, named))
