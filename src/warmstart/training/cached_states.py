"""What the parts of a model that stand still give, computed once: later epochs cost the rest alone.

It lies on disk and is read by the row, so that memory holds no more than a batch; the operating
system's page cache keeps what fits. Plain reads rather than a memory map, so that the process does
not grow with the file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import ordered
from warmstart.errors import RunError, shown
from warmstart.models.forward import Batch, Forward, Outputs
from warmstart.training.datasets import INFERENCE_TOKENS, Rows, TokenRows

SPARE = 1 << 28
FEATURE_ROWS = 1024
"""Rows of features whose logits are computed at once."""


class HiddenFile:
    """States [tokens, H] of rows that begin at `offsets`, in a file.

    Raises `RunError` where the disk has no room for them.
    """

    def __init__(
        self, path: Path, offsets: np.ndarray, width: int, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.path, self.offsets, self.width, self.dtype = path, offsets, width, dtype
        self._bytes = width * dtype.itemsize
        size = int(offsets[-1]) * self._bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if size + SPARE > shutil.disk_usage(path.parent).free:
                raise OSError(f"they need {size / 2**30:.1f} GiB and the disk has not so much")
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise RunError(
                f"cannot write hidden states to {path}: {shown(error, 120)}; make room, or say "
                "method.cached = false"
            ) from None

    def write(self, rows: np.ndarray, states: Tensor) -> None:
        """Put states [n, L, H] of rows in their places, without their padding."""
        values = states.to("cpu", self.dtype).contiguous().view(torch.uint8).numpy()
        try:
            for row, value in zip(rows, values, strict=True):
                begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
                piece: Any = np.ascontiguousarray(value[: end - begin])
                if os.pwrite(self._handle, piece, begin * self._bytes) < piece.nbytes:
                    raise OSError("the disk is full")
        except OSError as error:
            raise RunError(f"cannot write hidden states to {self.path}: {error}") from None

    def read(self, rows: np.ndarray, columns: int) -> Tensor:
        """The states of rows, padded with zeros on the right, [n, columns, H]."""
        states = torch.zeros(len(rows), columns, self.width, dtype=self.dtype)
        flat = states.view(torch.uint8).numpy()
        for place, row in zip(flat, rows, strict=True):
            begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
            os.preadv(self._handle, [place[: end - begin]], begin * self._bytes)
        return states

    def close(self) -> None:
        """Close and remove the file."""
        os.close(self._handle)
        self.path.unlink(missing_ok=True)


class HiddenRows(TokenRows):
    """Token ids with the states below the model's split, kept in a file of `dtype`."""

    def __init__(self, rows: TokenRows, forward: Forward, path: Path, dtype: torch.dtype) -> None:
        super().__init__(rows.dataset, rows.pad_id, rows.device)
        self._file: HiddenFile | None = None
        try:
            for numbers in ordered(self.sizes, INFERENCE_TOKENS):
                states = forward.below_split(super().collate(numbers).inputs)
                offsets = rows.dataset.offsets
                self._file = self._file or HiddenFile(path, offsets, states.shape[-1], dtype)
                self._file.write(numbers, states)
        except BaseException:
            self.close()
            raise

    def collate(self, rows: np.ndarray) -> Batch:
        batch = super().collate(rows)
        assert self._file is not None
        hidden = self._file.read(rows, batch.inputs["ids"].shape[1]).to(self.device)
        return replace(batch, inputs={**batch.inputs, "hidden": hidden})

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


class FeatureRows(Rows):
    """What the head reads of each row [n, H], kept in a file of float32, for a head alone."""

    def __init__(self, rows: TokenRows, forward: Forward, path: Path) -> None:
        super().__init__(rows.sizes, rows.device)
        self.targets = rows.dataset.targets
        self._file: HiddenFile | None = None
        offsets = np.arange(len(self) + 1)
        try:
            with torch.no_grad():
                for numbers in rows.ordered(1):
                    states = forward.features(**rows.collate(numbers).inputs)[:, None]
                    width = states.shape[-1]
                    self._file = self._file or HiddenFile(path, offsets, width, torch.float32)
                    self._file.write(numbers, states)
        except BaseException:
            self.close()
            raise

    def collate(self, rows: np.ndarray) -> Batch:
        assert self._file is not None
        inputs = {"features": self._file.read(rows, 1)[:, 0].to(self.device)}
        return Batch(inputs, self._send(self.targets[rows]), self._count(len(rows)), rows, tokens=0)

    def plan(
        self, rows: np.ndarray, batch_size: int, batch_tokens: int | None, rng_key: tuple[int, int]
    ) -> list[np.ndarray]:
        """At random: all rows cost the same."""
        order = np.random.Generator(np.random.PCG64(rng_key)).permutation(rows)
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def steps_of(self, rows: int, batch_size: int, batch_tokens: int | None) -> int | None:
        return -(-rows // batch_size)

    def micro(self, rows: np.ndarray, max_tokens: int) -> list[np.ndarray]:
        """One batch; features are small."""
        return [rows]

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        starts = range(0, len(self), FEATURE_ROWS)
        return [np.arange(start, min(start + FEATURE_ROWS, len(self))) for start in starts]

    def gather(self, forward: Forward, answers: Iterable[tuple[Batch, Outputs]]) -> np.ndarray:
        """Logits [n, K]."""
        parts = [
            values.float().cpu().numpy() for _, values in answers if isinstance(values, Tensor)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def cached_features(
    rows: Mapping[str, TokenRows], forward: Forward, folder: Path
) -> Iterator[dict[str, Rows]]:
    """The features of splits in files below `folder`, which are removed at the end."""
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        cached: dict[str, Rows] = {}
        for name, own in rows.items():
            cached[name] = made = FeatureRows(own, forward, folder / name)
            stack.callback(made.close)
        yield cached


@contextmanager
def split_states(
    rows: Mapping[str, TokenRows],
    forward: Forward,
    blocks: int,
    folder: Path,
    *,
    keep: bool = True,
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[dict[str, Rows] | None]:
    """The same rows for a model that is split above its first `blocks` blocks, which stand still;
    None where it cannot be.

    With `keep` their states lie in files below `folder`, which are removed at the end; without,
    they are computed anew for each batch.
    """
    if not forward.split(blocks):
        yield None
        return
    with ExitStack() as stack:
        stack.callback(_remove_empty, folder)
        cached: dict[str, Rows] = dict(rows)
        stack.callback(forward.unsplit)
        for name, own in rows.items() if keep else ():
            cached[name] = made = HiddenRows(own, forward, folder / name, dtype)
            stack.callback(made.close)
        yield cached


def _remove_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
