"""What the parts of a model that stand still give, computed once: later epochs cost the rest alone.

It lies on disk and is read by the row, so that memory holds no more than a batch; the operating
system's page cache keeps what fits. Plain reads rather than a memory map, so that the process does
not grow with the file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import ordered
from warmstart.errors import RunError, shown
from warmstart.models.forward import Batch, Forward
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

    @classmethod
    def of(
        cls,
        path: Path,
        offsets: np.ndarray,
        parts: Iterable[tuple[np.ndarray, Tensor]],
        dtype: torch.dtype,
    ) -> HiddenFile | None:
        """A file of all rows, in parts (rows, states [n, L, H]); None where there are none."""
        file = None
        try:
            for rows, states in parts:
                file = file or cls(path, offsets, states.shape[-1], dtype)
                file.write(rows, states)
        except BaseException:
            if file is not None:
                file.close()
            raise
        return file

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
        parts = ((numbers, forward.below_split(rows.collate(numbers).inputs))
                 for numbers in ordered(self.sizes, INFERENCE_TOKENS))  # fmt: skip
        self.file = HiddenFile.of(path, rows.dataset.offsets, parts, dtype)

    def collate(self, rows: np.ndarray) -> Batch:
        batch = super().collate(rows)
        assert self.file is not None
        hidden = self.file.read(rows, batch.inputs["ids"].shape[1]).to(self.device)
        return replace(batch, inputs={**batch.inputs, "hidden": hidden})


class FeatureRows(Rows):
    """What the head reads of each row [n, H], kept in a file of float32, for a head alone."""

    undivided = True

    def __init__(self, rows: TokenRows, forward: Forward, path: Path) -> None:
        super().__init__(rows.sizes, rows.device)
        self.targets = rows.dataset.targets
        with torch.no_grad():
            parts = ((numbers, forward.features(**rows.collate(numbers).inputs)[:, None])
                     for numbers in rows.ordered(1))  # fmt: skip
            self.file = HiddenFile.of(path, np.arange(len(self) + 1), parts, torch.float32)

    def collate(self, rows: np.ndarray) -> Batch:
        assert self.file is not None
        inputs = {"features": self.file.read(rows, 1)[:, 0].to(self.device)}
        return Batch(inputs, self._send(self.targets[rows]), self._count(len(rows)), rows, tokens=0)

    def plan(
        self, rows: np.ndarray, batch_size: int, batch_tokens: int | None, rng_key: tuple[int, int]
    ) -> list[np.ndarray]:
        """At random: all rows cost the same."""
        order = np.random.Generator(np.random.PCG64(rng_key)).permutation(rows)
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def ordered(self, batch_size: int) -> list[np.ndarray]:
        starts = range(0, len(self), FEATURE_ROWS)
        return [np.arange(start, min(start + FEATURE_ROWS, len(self))) for start in starts]


@contextmanager
def _cached(
    rows: Mapping[str, TokenRows],
    folder: Path,
    cache: Callable[[TokenRows, Path], FeatureRows | HiddenRows],
) -> Iterator[dict[str, Rows]]:
    """Splits that are cached in files below `folder`, which are removed at the end."""
    cached: dict[str, Rows] = {}
    with ExitStack() as stack:
        for name, own in rows.items():
            cached[name] = made = cache(own, folder / name)
            if made.file is not None:
                stack.callback(made.file.close)
        yield cached
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def cached_features(
    rows: Mapping[str, TokenRows], forward: Forward, folder: Path
) -> AbstractContextManager[dict[str, Rows]]:
    """The features of splits in files below `folder`, which are removed at the end."""
    return _cached(rows, folder, lambda own, path: FeatureRows(own, forward, path))


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
    try:
        kept = rows if keep else {}
        with _cached(kept, folder, lambda own, to: HiddenRows(own, forward, to, dtype)) as cached:
            yield {**rows, **cached}
    finally:
        forward.unsplit()
