"""Flipped labels come to the top; copies never judge each other; the list comes back."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.corrections import COLUMNS, correct, write_suspicious
from warmstart.data.ledger import Ledger
from warmstart.data.readers.read import read
from warmstart.errors import DataError, RunError
from warmstart.evaluation.label_quality import LabelErrors, find_label_errors, fold_of, scaled

K, WIDTH = 4, 24


def blobs(n: int = 400, share: float = 0.05, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Features in K clouds, labels with flips, and which rows were flipped."""
    rng = np.random.default_rng(seed)
    clean = np.arange(n) % K
    x = 2.0 * rng.standard_normal((K, WIDTH))[clean] + rng.standard_normal((n, WIDTH))
    flipped = rng.choice(n, round(share * n), replace=False)
    y = clean.copy()
    y[flipped] = (y[flipped] + rng.integers(1, K, len(flipped))) % K
    return 50 + 7 * x.astype(np.float32), y, flipped, clean


def test_flips_are_found() -> None:
    x, y, flipped, clean = blobs()
    errors = find_label_errors(x, y, 0)
    n = len(flipped)
    assert np.isin(errors.ranked[:n], flipped).mean() > 0.9
    assert np.isin(flipped, errors.rows).mean() >= 0.85
    assert abs(len(errors.rows) - n) <= 5 and abs(errors.estimated - n) <= 5
    assert errors.accuracy == pytest.approx(0.95, abs=0.02)
    np.testing.assert_array_equal(errors.labels, y[errors.rows])
    among = np.isin(errors.rows, flipped)
    assert (errors.suggested[among] == clean[errors.rows[among]]).mean() > 0.9
    assert (errors.suggested != errors.labels).all()


def test_the_order_and_the_figures_agree() -> None:
    x, y, _, _ = blobs()
    errors = find_label_errors(x, y, 0)
    assert (np.diff(errors.confidence) >= 0).all()
    assert (errors.score > 0).all() and (errors.score <= 1).all()
    assert sorted(errors.ranked.tolist()) == list(range(len(y)))
    np.testing.assert_array_equal(errors.rows, errors.ranked[np.isin(errors.ranked, errors.rows)])
    np.testing.assert_allclose(errors.out_of_fold.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(
        errors.confidence, errors.out_of_fold[errors.rows, errors.labels], atol=1e-6
    )
    again = find_label_errors(x, y, 0)
    np.testing.assert_array_equal(again.ranked, errors.ranked)


def test_class_numbers_may_have_gaps() -> None:
    x, y, _, _ = blobs()
    errors, spread = find_label_errors(x, y, 0), find_label_errors(x, 3 * y + 2, 0)
    np.testing.assert_array_equal(errors.rows, spread.rows)
    np.testing.assert_array_equal(3 * errors.suggested + 2, spread.suggested)
    assert spread.out_of_fold.shape == (len(y), 3 * (K - 1) + 3)


def test_copies_do_not_judge_each_other() -> None:
    """A wrong label that is copied with its text defends itself unless its copies are kept out."""
    x, y, _, _ = blobs(share=0.0)
    wrong = np.arange(10)
    y[wrong] = (y[wrong] + 1) % K
    copies = np.repeat(wrong, 6)
    x, y = np.concatenate([x, x[copies]]), np.concatenate([y, y[copies]])
    groups = np.concatenate([np.arange(400), copies])
    planted = np.concatenate([wrong, np.arange(400, len(y))])
    kept_apart = find_label_errors(x, y, 0, groups=groups)
    mixed = find_label_errors(x, y, 0)
    assert np.isin(planted, kept_apart.rows).all()
    assert np.isin(planted, mixed.rows).mean() < 0.5


def test_a_class_too_rare_to_judge_is_not_listed() -> None:
    x, y, _, _ = blobs()
    y[0] = K
    y[[1, 5]] = K + 1
    errors = find_label_errors(x, y, 0)
    assert not np.isin([0, 1, 5], errors.rows).any()
    assert set(errors.ranked[-3:]) == {0, 1, 5}


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes"):
        find_label_errors(np.ones((9, 3)), np.zeros(9), 0)


def test_folds_are_stratified_and_groups_whole() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 200)
    y = groups % 3
    fold = fold_of(y, groups, 5, seed=1)
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    _, first = np.unique(groups, return_index=True)
    counts = np.array([np.bincount(fold[first][y[first] == c], minlength=5) for c in range(3)])
    assert (counts.max(1) - counts.min(1) <= 1).all()
    assert (fold != fold_of(y, groups, 5, seed=2)).any()


def test_scaling_is_blind_to_size_and_place() -> None:
    x = np.random.default_rng(0).standard_normal((30, 5))
    np.testing.assert_allclose(scaled(x), scaled(900 * x + 3), atol=1e-4)
    assert np.isfinite(scaled(np.ones((4, 3)))).all()


def table(path: Path, y: np.ndarray) -> pa.Table:
    """A CSV file of as many texts, read."""
    awkward = ["=1+1", 'two\nlines, and a "quote"', "-5 € for é", "x" * 3_000, "a  b\tc"]
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows((f"{awkward[i % 5]} {i}", f"c{label}") for i, label in enumerate(y))
    return read(path, ledger=Ledger())


def suspicious(errors: LabelErrors, data: pa.Table) -> tuple[pa.Table, list[str], np.ndarray]:
    return data.take(errors.rows), [f"c{i}" for i in errors.suggested], errors.confidence


def test_the_list_goes_out_and_comes_back(tmp_path: Path) -> None:
    """Relabel the first, drop the second, leave the rest: nothing else changes."""
    x, y, _, _ = blobs()
    data = table(tmp_path / "data.csv", y)
    errors = find_label_errors(x, y, 0)
    path = tmp_path / "suspicious.csv"
    write_suspicious(path, *suspicious(errors, data))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(errors.rows)
    assert all(row["use"] == "" for row in rows)
    assert [row["label"] for row in rows] == [f"c{i}" for i in errors.labels]
    for row in rows:
        row["use"] = row["suggested"]
    rows[1]["use"] = "drop"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    ledger = Ledger()
    ledger.keep("train", 0)
    found = correct({"train": data}, "label", path, ledger)["train"]
    expected = [f"c{i}" for i in y]
    for row, label in zip(errors.rows, errors.suggested, strict=True):
        expected[row] = f"c{label}"
    del expected[errors.rows[1]]
    assert found["label"].to_pylist() == expected
    assert found["_line"].to_pylist() == [
        line for i, line in enumerate(data["_line"].to_pylist()) if i != errors.rows[1]
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    x, y, _, _ = blobs()
    data, errors = table(tmp_path / "d.csv", y), find_label_errors(x, y, 0)
    with pytest.raises(RunError, match="cannot write"):
        write_suspicious(tmp_path / "no" / "s.csv", *suspicious(errors, data))


@pytest.mark.slow
def test_flips_in_real_messages(shared_data: Path) -> None:
    """5 % of sms_spam flipped: at least three of four rows at the top are flips."""
    from warmstart.data.dedup.exact import text_keys
    from warmstart.models.base import resolve
    from warmstart.training.frozen_features import features

    rows = read(shared_data / "sms_spam" / "train.csv", ledger=Ledger())
    x = features(resolve("minilm"), rows["text"])
    clean = np.array([label == "spam" for label in rows["label"].to_pylist()], np.int64)
    for seed in (0, 1, 2):
        flipped = np.random.default_rng(seed).choice(len(clean), len(clean) // 20, replace=False)
        y = clean.copy()
        y[flipped] = 1 - y[flipped]
        errors = find_label_errors(x, y, 0, groups=text_keys(rows, ["text"]))
        assert np.isin(errors.ranked[: len(flipped)], flipped).mean() >= 0.9


def test_the_planted_faults_of_the_samples() -> None:
    """All 18 are listed, within the first 30, each with its right label."""
    import warmstart.samples as samples
    from warmstart.data.dedup.exact import text_keys
    from warmstart.models.base import resolve
    from warmstart.training.frozen_features import features

    folder = Path(samples.__path__[0])
    rows = read(folder / "tickets.csv", ledger=Ledger())
    with (folder / "tickets_truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {
            int(row["row"]) - 1: row["true_label"]
            for row in csv.DictReader(file)
            if row["kind"] in ("label_error", "conflicting_label")
        }
    names, y = np.unique(rows["label"].to_pylist(), return_inverse=True)
    x = features(resolve("minilm"), rows["text"])
    errors = find_label_errors(x, y, 0, groups=text_keys(rows, ["text"]))
    said = dict(zip(errors.rows.tolist(), names[errors.suggested].tolist(), strict=True))
    assert set(truth) <= set(errors.ranked[:30].tolist()) and set(truth) <= set(said)
    assert {row: said[row] for row in truth} == truth
