"""Every text of a step comes back in its place; classes come in groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.models.forward import Forward
from warmstart.training.datasets import GroupRows, behind, grouped, narrow


def store(lengths: list[int], first: int) -> TokenizedDataset:
    """Rows of tokens that begin with a number of their own."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.zeros(int(offsets[-1]), np.uint16)
    ids[offsets[:-1]] = first + np.arange(len(lengths))
    return TokenizedDataset(ids, offsets.astype(np.int64), np.arange(len(lengths)))


class First(Forward):
    """A forward pass whose vector is the first token."""

    def __init__(self) -> None:
        self._memory, self._remembers, self.training, self._split = None, False, True, None

    def logits(self, ids: torch.Tensor, lengths: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.stack([ids[:, 0], lengths], 1).float()

    def narrow_vocabulary(self, used: np.ndarray) -> np.ndarray:
        table = np.zeros(100, np.int64)
        table[used] = np.arange(len(used))
        return table


def triplets() -> TokenizedDataset:
    third = store([9, 1, 4, 2, 2], 30)
    second = replace(store([3, 3, 8, 1, 5], 20), answers=third)
    names = np.arange(15).reshape(3, 5).T.copy()
    return replace(store([2, 7, 1, 6, 3], 10), answers=second, targets=names)


def rows() -> GroupRows:
    return GroupRows(triplets(), 0, torch.device("cpu"), 8)


def test_texts_one_after_the_other() -> None:
    texts = [triplets(), *behind(triplets())]
    whole = joined(texts)
    assert len(texts) == 3 and len(whole) == 15 and whole.answers is None
    assert [int(whole.row(i)[0]) for i in range(15)] == [
        *range(10, 15),
        *range(20, 25),
        *range(30, 35),
    ]
    assert whole.lengths[5:10].tolist() == [3, 3, 8, 1, 5]


def test_every_text_in_its_place() -> None:
    it, forward = rows(), First()
    numbers = np.array([4, 0, 3])
    batch = it.collate(numbers)
    vectors: Any = forward.forward(batch)
    assert vectors.shape == (3, 3, 2)
    assert vectors[:, :, 0].tolist() == [[14, 24, 34], [10, 20, 30], [13, 23, 33]]
    assert batch.targets.tolist() == triplets().targets[numbers].tolist()
    assert batch.tokens == (3 + 5 + 2) + (2 + 3 + 9) + (6 + 1 + 2)
    expected = [[10 + i, 20 + i, 30 + i] for i in range(5)]
    assert it.predict(forward)[:, :, 0].tolist() == expected
    with forward.evaluating():
        answers = [(batch, forward.forward(batch)) for batch in map(it.collate, it.ordered(2))]
    assert it.gather(forward, answers)[:, :, 0].tolist() == expected


def test_an_epoch_has_every_row_once_in_even_steps() -> None:
    it, everything = rows(), np.arange(5)
    steps = it.plan(everything, 2, None, (3, 1))
    assert sorted(len(step) for step in steps) == [1, 2, 2]
    assert sorted(np.concatenate(steps).tolist()) == [0, 1, 2, 3, 4]
    again = it.plan(everything, 2, None, (3, 1))
    assert all((a == b).all() for a, b in zip(steps, again, strict=True))
    chosen = it.plan(np.array([1, 4]), 2, None, (0, 0))
    assert sorted(np.concatenate(chosen).tolist()) == [1, 4]


def test_rows_of_a_class_stand_together() -> None:
    classes = np.repeat([0, 1, 2], [8, 4, 1])
    rng = np.random.default_rng(0)
    order = grouped(rng.permutation(13), classes, 4, rng)
    assert sorted(order.tolist()) == list(range(13))
    runs = np.flatnonzero(np.diff(classes[order])) + 1
    sizes = [len(part) for part in np.split(order, runs)]
    assert sorted(sizes) in ([1, 4, 4, 4], [1, 4, 8])


def test_the_active_vocabulary_covers_all_texts() -> None:
    before = triplets()
    compute: Any = First()
    after, pad = narrow(compute, {"train": before}, 0)
    assert pad == 0
    used = np.unique(np.concatenate([part.ids for part in [before, *behind(before)]]))
    for old, new in zip(
        [before, *behind(before)], [after["train"], *behind(after["train"])], strict=True
    ):
        np.testing.assert_array_equal(used[new.ids], old.ids)
