"""Every text of a step comes back in its place; classes come in groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from warmstart.data.tokens.dataset import TokenizedDataset, joined
from warmstart.training.contrastive_batches import PairFeed, grouped, texts_of
from warmstart.training.vocabulary import narrow


def store(lengths: list[int], first: int) -> TokenizedDataset:
    """Rows of tokens that begin with a number of their own."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.zeros(int(offsets[-1]), np.uint16)
    ids[offsets[:-1]] = first + np.arange(len(lengths))
    return TokenizedDataset(ids, offsets.astype(np.int64), np.arange(len(lengths)))


class First:
    """A compute whose vector is the first token."""

    device, dtype = torch.device("cpu"), torch.float32

    def logits(self, ids: torch.Tensor, lengths: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.stack([ids[:, 0], lengths], 1).float()

    def joined(self, parts: Any) -> torch.Tensor:
        return torch.cat([*parts])

    def narrow_vocabulary(self, used: np.ndarray) -> np.ndarray:
        table = np.zeros(100, np.int64)
        table[used] = np.arange(len(used))
        return table


def triplets() -> TokenizedDataset:
    third = store([9, 1, 4, 2, 2], 30)
    second = replace(store([3, 3, 8, 1, 5], 20), answers=third)
    names = np.arange(15).reshape(3, 5).T.copy()
    return replace(store([2, 7, 1, 6, 3], 10), answers=second, targets=names)


def feed(**keys: Any) -> PairFeed:
    compute: Any = First()
    return PairFeed(triplets(), compute, 0, **{"batch_size": 2, "micro_batch_tokens": 8} | keys)


def test_texts_one_after_the_other() -> None:
    texts = texts_of(triplets())
    whole = joined(texts)
    assert len(texts) == 3 and len(whole) == 15 and whole.answers is None
    assert [int(whole.row(i)[0]) for i in range(15)] == [
        *range(10, 15),
        *range(20, 25),
        *range(30, 35),
    ]
    assert whole.lengths[5:10].tolist() == [3, 3, 8, 1, 5]


def test_every_text_in_its_place() -> None:
    it = feed()
    rows = np.array([4, 0, 3])
    (batch,) = it.batches(rows)
    vectors = it.logits(batch, training=True)
    assert vectors.shape == (3, 3, 2)
    assert vectors[:, :, 0].tolist() == [[14, 24, 34], [10, 20, 30], [13, 23, 33]]
    assert batch.targets.tolist() == triplets().targets[rows].tolist()
    assert batch.tokens == (3 + 5 + 2) + (2 + 3 + 9) + (6 + 1 + 2)
    assert it.predict()[:, :, 0].tolist() == [[10 + i, 20 + i, 30 + i] for i in range(5)]


def test_an_epoch_has_every_row_once_in_even_steps() -> None:
    it = feed()
    steps = it.epoch(3, 1)
    assert sorted(len(step) for step in steps) == [1, 2, 2]
    assert sorted(np.concatenate(steps).tolist()) == [0, 1, 2, 3, 4]
    again = it.epoch(3, 1)
    assert all((a == b).all() for a, b in zip(steps, again, strict=True))
    chosen = feed(rows=np.array([1, 4])).epoch(0, 0)
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
    used = np.unique(np.concatenate([part.ids for part in texts_of(before)]))
    for old, new in zip(texts_of(before), texts_of(after["train"]), strict=True):
        np.testing.assert_array_equal(used[new.ids], old.ids)
