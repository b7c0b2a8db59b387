"""Groups that a column names (author, thread, document): where they straddle splits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc
from warmstart.errors import DataError, nearest, shown

SPLITS = ("train", "validation", "test")


def group_values(table: pa.Table, column: str) -> pa.Array:
    """The values of the column as text, null where empty. Raises DataError if there is none."""
    if column not in table.column_names:
        named = len(table) and "_file" in table.column_names
        file = table["_file"][0].as_py() if named else "the data"
        names = [name for name in table.column_names if not name.startswith("_")]
        raise DataError(
            f"{file} has no column '{shown(column)}'.{nearest(column, names)} Name the column "
            "whose rows belong together with --data.group NAME"
        )
    values = table[column].cast(pa.large_string())
    values = values.combine_chunks()
    blank = pc.equal(pc.utf8_trim_whitespace(values), "")
    return pc.if_else(pc.fill_null(blank, True), pa.scalar(None, pa.large_string()), values)


def straddling_groups(parts: Mapping[str, pa.Table], column: str) -> pa.Table:
    """The values of `column` that stand in more than one split: `value`, and how many rows of each
    split have it (int64, a column for each split), the most frequent first."""
    names = [name for name in SPLITS if name in parts]
    values = {name: group_values(parts[name], column) for name in names}
    every = pa.chunked_array([values[name] for name in names], pa.large_string())
    distinct = pc.unique(every).drop_null() if names else pa.array([], pa.large_string())
    counts = np.zeros((len(names), len(distinct)), np.int64)
    for i, name in enumerate(names):
        at = pc.index_in(values[name], value_set=distinct).drop_null()
        counts[i] = np.bincount(np.asarray(at, np.int64), minlength=len(distinct))
    torn = np.flatnonzero((counts > 0).sum(0) > 1)
    torn = torn[np.argsort(-counts[:, torn].sum(0), kind="stable")]
    columns = {name: pa.array(counts[i, torn]) for i, name in enumerate(names)}
    return pa.table({"value": distinct.take(pa.array(torn)), **columns})
