"""A stamp of the data, so that a run is not resumed on other rows than it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from warmstart.data.arrow import pc


def fingerprint(parts: Mapping[str, pa.Table]) -> str:
    """sha256 over the values of the role columns, whatever their chunks."""
    whole = hashlib.sha256()
    for split, table in parts.items():
        for role in table.column_names:
            if role not in ("_file", "_line"):
                whole.update(f"{split}\0{role}\0{len(table)}\0".encode())
                whole.update(_column_digest(table[role]))
    return whole.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> bytes:
    values, lengths = hashlib.sha256(), hashlib.sha256()
    for chunk in column.chunks:
        if pa.types.is_string(chunk.type):
            sizes = pc.fill_null(pc.cast(pc.binary_length(chunk), pa.int64()), -1)
            lengths.update(np.ascontiguousarray(sizes).tobytes())
            values.update("".join(filter(None, chunk.to_pylist())).encode())
        else:
            for value in chunk.to_pylist():
                values.update(json.dumps(value, default=str).encode() + b"\n")
    return values.digest() + lengths.digest()
