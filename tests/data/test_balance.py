from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmstart.data.ledger import Ledger
from warmstart.data.sampling import class_weights, mixed, note_sampling, resample

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(LABELS, st.integers(0, 3))
def test_over_keeps_all_rows_and_evens_out(labels: np.ndarray, seed: int) -> None:
    rows = resample(labels, "over", seed)
    assert set(rows) == set(range(len(labels)))
    assert len(set(np.bincount(labels[rows])) - {0}) == 1
    for label in set(labels):
        times = np.bincount(rows, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1
    assert (rows == resample(labels, "over", seed)).all()


@given(LABELS)
def test_under_repeats_nothing_and_evens_out(labels: np.ndarray) -> None:
    rows = resample(labels, "under", 0)
    assert len(set(rows)) == len(rows)
    assert set(np.bincount(labels[rows])) - {0} == {np.unique(labels, return_counts=True)[1].min()}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("under", "4 of 9 rows of train used, 2 of each class, which had 2 to 7"),
        ("over", "9 rows of train repeated to 14, 7 of each class, which had 2 to 7"),
    ],
)
def test_the_ledger_is_told_which_rows_are_used(how: Any, said: str) -> None:
    labels, ledger = np.array([1] * 7 + [0] * 2), Ledger()
    note_sampling(labels, resample(labels, how, 0), ["no", "yes"], how, ledger)
    (note,) = ledger.notes
    assert note["kind"] == "sampling" and note["message"] == f"data.sampling = {how}: {said}"
    used = {"under": 2, "over": 7}[how]
    assert note["classes"] == {"no": {"rows": 2, "used": used}, "yes": {"rows": 7, "used": used}}


def test_none_is_every_row_once() -> None:
    assert resample(np.array([1, 1, 0]), "none", 0).tolist() == [0, 1, 2]
    assert resample(np.array([], int), "over", 0).tolist() == []


@given(LABELS)
def test_weights_average_to_one(labels: np.ndarray) -> None:
    present = np.unique(labels, return_inverse=True)[1]
    weights = class_weights(present, int(present.max()) + 1)
    np.testing.assert_allclose(weights[present].mean(), 1)


def test_weights_are_the_balanced_ones_and_zero_for_absent() -> None:
    assert class_weights(np.array([0, 0, 0, 1]), 3).tolist() == [4 / 9, 4 / 3, 0]


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """A folder of three splits with four rows of `pos` to one of `neg`."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in (("train", 40), ("validation", 20), ("test", 25)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for i in range(rows):
                label = "neg" if i % 5 == 0 else "pos"
                writer.writerow([f"{label} {split} number {i}", label])
    return folder


@pytest.mark.parametrize("how", ["over", "under"])
def test_validation_and_test_are_never_resampled(
    how: str, uneven: Path, tiny_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train is evened out; the other two are computed and scored row by row, once each."""
    import pyarrow.parquet as pq

    import warmstart
    from warmstart.training.batches import BatchSource

    made: list[Any] = []
    begin = BatchSource.__init__

    def spy(self: BatchSource, *args: Any, **keys: Any) -> None:
        begin(self, *args, **keys)
        made.append(self)

    monkeypatch.setattr(BatchSource, "__init__", spy)
    keys = {"evaluate.baselines": False, "train.epochs": 1, "evaluate.bootstrap": 100}
    keys |= {"data.sampling": how, "base": str(tiny_of("gpt2")), "train.learning_rate": 1e-3}
    run = uneven.parent / "run"
    warmstart.tune(str(uneven), method="full", out=str(run), **keys)
    size = {"over": 32, "under": 8}[how]
    trained = [s for s in made if len(s) == 40 and len(s.rows) == 2 * size]
    assert trained
    for source in trained:
        assert (np.bincount(source.dataset.dataset.targets[source.rows]) == size).all()
    (judged,) = [source for source in made if len(source) == 20]
    assert judged.rows.tolist() == list(range(20))
    found = pq.read_table(run / "predictions.parquet")
    assert sorted(found["line"].to_pylist()) == list(range(2, 27))
    assert found["label"].to_pylist().count("neg") == 5


def test_sets_are_mixed_by_tokens():
    """The first set is taken whole; of the others as many tokens as their shares say, small ones
    again and again, each row as often as the next but for one."""
    rng = np.random.default_rng(0)
    sizes = [rng.integers(1, 60, n) for n in (200, 400, 7)]
    rows = mixed(sizes, [0.2, 0.3], 1)
    tokens = [int(own[chosen].sum()) for own, chosen in zip(sizes, rows, strict=True)]
    assert rows[0].tolist() == list(range(200)) and len(set(rows[1].tolist())) == len(rows[1])
    for place, share in ((1, 0.2), (2, 0.3)):
        assert abs(tokens[place] - tokens[0] * share / 0.5) <= 30, "half of the longest row"
    times = np.bincount(rows[2], minlength=7)
    assert times.min() > 1 and np.ptp(times) <= 1
    assert not len(mixed(sizes, [0.0, 0.3], 1)[1])
    again = mixed(sizes, [0.2, 0.3], 2)[1]
    assert sorted(again.tolist()) != sorted(rows[1].tolist())
