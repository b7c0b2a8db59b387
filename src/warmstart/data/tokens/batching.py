"""Which rows go together: batches of about equal length, in an order that the seed decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from warmstart.data.tokens.dataset import TokenizedDataset


def plan(
    lengths: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    batch_tokens: int | None = None,
    window: int = 50,
) -> list[np.ndarray]:
    """The batches of one epoch as arrays of row numbers; every row exactly once.

    The rows are shuffled and cut into windows of `window` batches; each window is sorted by length
    and cut into batches of `batch_size` rows, or of at most `batch_tokens` tokens with padding
    (a longer row stands alone); then the batches are shuffled. The same arguments give the same
    batches.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    if batch_tokens is not None and len(lengths):
        batch_size = max(batch_size, int(batch_tokens / max(lengths.mean(), 1)))
    for start in range(0, len(order), window * batch_size):
        rows = order[start : start + window * batch_size]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        if batch_tokens is None:
            batches.extend(rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
        else:
            batches.extend(_by_tokens(rows, lengths, batch_tokens))
    return [batches[i] for i in rng.permutation(len(batches))]


def micro(batch: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """One batch in parts of at most `max_tokens` tokens with padding; a longer row stands alone.

    `lengths` are those of the whole split. Within the parts rows stand in order of length.
    """
    rows = batch[np.argsort(lengths[batch], kind="stable")]
    return _by_tokens(rows, lengths, max_tokens)


def ordered(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """All rows, longest first (so that memory runs out at once or never), in padded batches of at
    most `batch_tokens` tokens; for inference.

    Whole batches of one `width` have equally many rows, so that there are few different shapes.
    """
    rows = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    longest = int(np.max(lengths, initial=1))
    batches: list[np.ndarray] = []
    start = 0
    while start < len(rows):
        count = max(1, batch_tokens // max(1, width(int(lengths[rows[start]]), longest)))
        batches.append(rows[start : start + count])
        start += count
    return batches


def width(longest: int, limit: int) -> int:
    """How wide a batch is made whose longest row has `longest` tokens; never over `limit`.

    A little more than needed (2 % on average), so that there are few different widths: a matrix
    library prepares and keeps a kernel for each, which costs time once and memory for good.
    """
    step = 1 << max(0, (longest // 8).bit_length() - 1)
    return min(-(-longest // step) * step, limit)


def pad(
    store: TokenizedDataset, rows: np.ndarray, pad_id: int, columns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows as one int64 array [rows, columns], filled up with `pad_id` on the right, and
    their lengths (int64). Unset, there are as many columns as the longest row has tokens."""
    lengths = store.offsets[np.asarray(rows) + 1] - store.offsets[rows]
    wide = int(lengths.max(initial=0)) if columns is None else columns
    return store.padded(store.ids, rows, wide, pad_id), lengths


def pad_rows(
    rows: Sequence[np.ndarray], fill: int, *, left: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int64 [n, longest], filled up with `fill`, and a mask of what is real."""
    longest = max([1, *(len(row) for row in rows)])
    ids = np.full((len(rows), longest), fill, np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(len(row))
        ids[number, place], mask[number, place] = row, 1
    return ids, mask


def _by_tokens(rows: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Rows in ascending length, cut so that rows times longest stays within `max_tokens`."""
    sizes = lengths[rows].tolist()
    batches: list[np.ndarray] = []
    start = 0
    for end, size in enumerate(sizes):
        if end > start and (end - start + 1) * size > max_tokens:
            batches.append(rows[start:end])
            start = end
    if len(rows):
        batches.append(rows[start:])
    return batches
