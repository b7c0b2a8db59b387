"""Hidden states of every token at a cut, computed once: later epochs cost the layers above it.

They lie on disk in bfloat16, rows of unequal length one after another, and are read by the row,
so that memory holds no more than a batch; the operating system's page cache keeps what fits.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from warmstart.data.tokens.batching import ordered
from warmstart.errors import RunError, shown
from warmstart.models.fast.split import Cut, cut_of
from warmstart.training.batches import INFERENCE_TOKENS, Batch, TokenFeed

SPARE = 1 << 28


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
        found = torch.zeros(len(rows), columns, self.width, dtype=self.dtype)
        flat = found.view(torch.uint8).numpy()
        for place, row in zip(flat, rows, strict=True):
            begin, end = int(self.offsets[row]), int(self.offsets[row + 1])
            os.preadv(self._handle, [place[: end - begin]], begin * self._bytes)
        return found

    def close(self) -> None:
        """Close and remove the file."""
        os.close(self._handle)
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class HiddenBatch(Batch):
    """As `Batch`, with the states at the cut [B, L, H]."""

    hidden: Tensor | None = None


class HiddenFeed(TokenFeed):
    """A token feed on the states at a cut: kept in a file, or computed anew for each batch."""

    cut: Cut
    file: HiddenFile | None = None

    @classmethod
    def over(cls, feed: TokenFeed, cut: Cut) -> HiddenFeed:
        """The feed above a cut; nothing is kept yet."""
        made = cls(
            feed.store, feed.compute, feed.pad_id, batch_size=feed.batch_size,
            batch_tokens=feed.batch_tokens, micro_batch_tokens=feed.micro_batch_tokens,
            rows=feed.rows,
        )  # fmt: skip
        made.cut = cut
        return made

    @torch.no_grad()
    def keep(self, path: Path, dtype: torch.dtype) -> None:
        """Compute the states of all rows and keep them in a file."""
        file: HiddenFile | None = None
        try:
            for rows in ordered(self.store.lengths, INFERENCE_TOKENS):
                states = self._states(super()._batch(rows))
                file = file or HiddenFile(path, self.store.offsets, states.shape[-1], dtype)
                file.write(rows, states)
        except BaseException:
            if file is not None:
                file.close()
            raise
        self.file = file

    def logits(self, batch: Batch, *, training: bool) -> Tensor:
        assert batch.ids is not None and batch.lengths is not None
        states = batch.hidden if isinstance(batch, HiddenBatch) else self._states(batch)
        assert states is not None
        return self.cut.logits(states, batch.ids, batch.lengths, training=training)

    def _batch(self, rows: np.ndarray) -> Batch:
        plain = super()._batch(rows)
        if self.file is None:
            return plain
        assert plain.ids is not None
        hidden = self.file.read(rows, plain.ids.shape[1]).to(plain.ids.device)
        return HiddenBatch(
            plain.targets, plain.tokens, plain.ids, plain.lengths, types=plain.types, hidden=hidden
        )

    @torch.no_grad()
    def _states(self, batch: Batch) -> Tensor:
        assert batch.ids is not None and batch.lengths is not None
        return self.cut.states(batch.ids, batch.lengths, types=batch.types)


@contextmanager
def hidden_feeds(
    feeds: Mapping[str, TokenFeed],
    blocks: int,
    folder: Path,
    *,
    keep: bool = True,
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[dict[str, HiddenFeed] | None]:
    """The same feeds above the first `blocks` blocks, which stand still; None where that cannot be.

    With `keep` their states lie in files below `folder`, which are removed at the end.
    """
    cut = cut_of(next(iter(feeds.values())).compute, blocks)
    if cut is None:
        yield None
        return
    made = {name: HiddenFeed.over(feed, cut) for name, feed in feeds.items()}
    try:
        if keep:
            for name, feed in made.items():
                feed.keep(folder / name, dtype)
        yield made
    finally:
        cut.close()
        for feed in made.values():
            if feed.file is not None:
                feed.file.close()
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
