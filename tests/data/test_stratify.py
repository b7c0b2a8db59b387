from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from warmstart.data.sampling import TEST, TRAIN, VALIDATION, cut, quotas

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=120)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.1, 0.3]))
def test_groups_never_part_and_train_keeps_every_class(
    rows: list[tuple[int, int]], validation: float, test: float
) -> None:
    keys = np.array([key for _, key in rows])
    codes = keys % 4  # rows of one text share their label here
    side = cut(codes, keys, validation, test, seed=1)
    assert len(side) == len(rows)
    for key in set(keys.tolist()):
        assert len(set(side[keys == key])) == 1
    for code in set(codes.tolist()):
        here = side[codes == code]
        assert (here == TRAIN).any()
        if test and len(set(keys[codes == code])) > 1:
            assert (here == TEST).any()
    assert test or not (side == TEST).any()
    assert validation or not (side == VALIDATION).any()


def test_shares_are_met_and_seeded() -> None:
    codes = np.repeat([0, 1, 2], [700, 250, 50])
    keys = np.arange(1_000)
    side = cut(codes, keys, 0.1, 0.2, seed=3)
    for code, size in enumerate((700, 250, 50)):
        here = side[codes == code]
        assert (here == TEST).sum() == size * 0.2 and (here == VALIDATION).sum() == size * 0.1
    assert (side == cut(codes, keys, 0.1, 0.2, seed=3)).all()
    assert (side != cut(codes, keys, 0.1, 0.2, seed=4)).any()


def test_a_big_group_does_not_fill_the_test_split() -> None:
    keys = np.concatenate([np.zeros(500, int), np.arange(1, 501)])
    side = cut(np.zeros(1_000, int), keys, 0.1, 0.1, seed=0)
    assert (side == TEST).sum() == (side == VALIDATION).sum() == 100


def test_quotas_add_up() -> None:
    assert quotas(np.array([7, 7, 6]), 0.1, 0).tolist() == [1, 1, 0]
    assert quotas(np.array([3, 3]), 0.1, 0).sum() == 1
    assert quotas(np.array([3, 3]), 0.1, 1).tolist() == [1, 1]
    assert quotas(np.array([3, 3]), 0.0, 1).tolist() == [0, 0]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=2, max_size=60),
    st.sampled_from([(0.1, 0.2), (0.0, 0.5), (0.45, 0.45), (0.3, 0.0)]),
    st.integers(0, 5),
)
def test_every_class_keeps_rows_in_train(rows: list[tuple[int, int]], shares, seed: int) -> None:
    """Whatever the groups, which hold rows of several classes, the sizes and the seed."""
    codes, groups = (np.array(values) for values in zip(*rows, strict=True))
    side = cut(codes, groups, *shares, seed)
    assert set(codes[side == TRAIN]) == set(codes)
    for value in groups:
        assert len(set(side[groups == value])) == 1, "a group stands on one side"
