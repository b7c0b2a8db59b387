"""Hidden states on disk, read by the row: a head can train on more of them than memory holds.

Plain reads rather than a memory map, so that the process does not grow with the file; the
operating system's page cache keeps what fits.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from warmstart.errors import RunError, shown


class StateFile:
    """A float32 table [n, width] in a file; rows are written and read in any order."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows, self.width = path, rows, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise RunError(f"cannot write hidden states to {path}: {shown(error, 120)}") from None

    def __len__(self) -> int:
        return self.rows

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put `values` [len(rows), width] in their places. Raises `RunError` on a full disk."""
        self.width = values.shape[1]
        values = np.ascontiguousarray(values, dtype=np.float32)
        try:
            for row, value in zip(rows, values, strict=True):
                if os.pwrite(self._handle, value, int(row) * value.nbytes) < value.nbytes:
                    raise OSError("the disk is full")
        except OSError as error:
            raise RunError(f"cannot write hidden states to {self.path}: {error}") from None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The states of `rows`, [len(rows), width]."""
        size = 4 * self.width
        parts = [os.pread(self._handle, size, int(row) * size) for row in rows]
        return np.frombuffer(bytearray(b"".join(parts)), np.float32).reshape(len(rows), -1)

    def close(self) -> None:
        """Close and remove the file."""
        os.close(self._handle)
        self.path.unlink(missing_ok=True)
