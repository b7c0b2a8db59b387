from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.tokens.batching import micro, ordered, pad, plan, width
from warmstart.data.tokens.dataset import TokenizedDataset

LENGTHS = st.lists(st.integers(1, 64), max_size=300).map(lambda x: np.array(x, np.int64))


def padded(batch: np.ndarray, lengths: np.ndarray) -> int:
    return len(batch) * int(lengths[batch].max())


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 20), st.integers(0, 5), st.none() | st.integers(1, 400))
def test_every_row_once_within_bounds(
    lengths: np.ndarray, size: int, seed: int, budget: int | None
) -> None:
    batches = plan(lengths, size, seed, 0, budget, window=3)
    rows = np.concatenate(batches) if batches else np.array([], int)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) > 0
        if budget is None:
            assert len(batch) <= size
        else:
            assert len(batch) == 1 or padded(batch, lengths) <= budget


def test_plan_is_decided_by_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 200)

    def flat(seed: int, epoch: int) -> list[int]:
        return np.concatenate(plan(lengths, 8, seed, epoch)).tolist()

    assert flat(1, 2) == flat(1, 2)
    assert len({tuple(flat(*x)) for x in ((1, 2), (1, 3), (2, 2))}) == 3


def test_windows_save_most_of_the_padding() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 5_000)
    waste = sum(padded(b, lengths) for b in plan(lengths, 16, 0, 0)) / lengths.sum()
    assert waste < 1.05


@given(LENGTHS.filter(len), st.integers(1, 300))
def test_micro_and_ordered(lengths: np.ndarray, budget: int) -> None:
    for batches in (micro(np.arange(len(lengths)), lengths, budget), ordered(lengths, budget)):
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(len(b) == 1 or padded(b, lengths) <= budget for b in batches)
    longest = [int(lengths[b].max()) for b in ordered(lengths, budget)]
    assert longest == sorted(longest, reverse=True)


def test_few_shapes() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 5_000)
    sizes: dict[int, set[int]] = {}
    whole = ordered(lengths, 2048)
    for batch in whole[:-1]:
        sizes.setdefault(width(int(lengths[batch].max()), 99), set()).add(len(batch))
    assert all(len(counts) == 1 for counts in sizes.values()), "equally many rows of one width"


def test_micro_of_some_rows() -> None:
    lengths = np.array([9, 1, 5, 5])
    assert [b.tolist() for b in micro(np.array([3, 0]), lengths, 10)] == [[3], [0]]


def test_no_rows() -> None:
    assert plan(np.array([], np.int64), 4, 0, 0) == [] == ordered(np.array([], np.int64), 8)


@given(LENGTHS.filter(len), st.data())
def test_pad_gives_each_row_back(lengths: np.ndarray, data: st.DataObject) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(1, offsets[-1] + 1).astype(np.uint16)
    store = TokenizedDataset(ids, offsets, np.zeros(len(lengths), np.int64))
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=9)))
    matrix, found = pad(store, rows, 0)
    assert matrix.dtype == np.int64 and matrix.shape == (len(rows), lengths[rows].max())
    assert found.tolist() == lengths[rows].tolist() == store.lengths[rows].tolist()
    for row, line, length in zip(rows, matrix, found, strict=True):
        assert line[:length].tolist() == store.row(row).tolist()
        assert not line[length:].any()


@given(longest=st.integers(1, 600), limit=st.integers(1, 600))
def test_a_batch_is_little_wider_than_needed(longest: int, limit: int) -> None:
    limit = max(longest, limit)
    assert longest <= width(longest, limit) <= min(limit, longest * 1.15 + 1)
    assert width(width(longest, 10**6), 10**6) == width(longest, 10**6)


def test_there_are_few_widths() -> None:
    assert len({width(longest, 512) for longest in range(1, 513)}) < 60


def test_steps_of_so_many_tokens_have_next_to_no_padding() -> None:
    """However many rows a step has: those that may stand together are enough to find equals."""
    lengths = np.random.default_rng(0).integers(5, 65, 20_000)
    for tokens in (256, 1_024, 8_192):
        batches = plan(lengths, 16, 0, 0, tokens)
        computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        assert 1 - lengths.sum() / computed < 0.05, tokens
