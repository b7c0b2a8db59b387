"""Rows that are read from a file when they are asked for, so that training need not hold them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyarrow as pa


def mapped(table: pa.Table, folder: Path) -> pa.Table:
    """The same table, backed by a file in `folder` that has no name any more: the system frees it
    with the table, and when the process ends. Where that cannot be, the table as it is."""
    path = folder / f".rows-{os.getpid()}"
    if os.name != "posix" or not table.nbytes:
        return table
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except OSError:  # no room on the disk, or one that cannot be mapped
        return table
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
