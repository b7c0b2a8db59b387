"""The baselines learn what can be counted, and their cost is bounded and said."""

from __future__ import annotations

import csv
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from warmstart.data.tokens.dataset import TokenizedDataset
from warmstart.evaluation.baselines import BASELINES, fit_baselines
from warmstart.evaluation.baselines import tfidf as counting
from warmstart.evaluation.baselines.rules import MajorityClass
from warmstart.evaluation.baselines.tfidf import TfidfClasses, blocks, picked
from warmstart.evaluation.settings import Evaluate
from warmstart.metrics.classification import f1_macro, tally
from warmstart.tasks.base import Examples
from warmstart.tasks.classification import Classification
from warmstart.tasks.multilabel.task import Multilabel
from warmstart.tasks.regression import Regression

TRAIN = ["good film", "bad film", "good book", "bad book", "so good", "so bad"] * 4
TRUTH = np.array([1, 0] * 12)


def rows(texts: list[str], targets: Any, labels: Any = "ab", **columns: list[str]) -> Examples:
    """A split of these texts and targets."""
    table = pa.table({"text": pa.chunked_array([texts]), **columns})
    offsets = np.arange(len(texts) + 1)
    store = TokenizedDataset(np.zeros(len(texts), np.uint16), offsets, np.asarray(targets))
    return Examples(table, store, list(labels), None)


def tfidf(train: Examples, validation: Examples | None = None, most: int = 20_000) -> Any:
    return TfidfClasses(Classification(), most, 0).fit(train, validation)


def test_majority_predicts_the_commonest_class() -> None:
    found = MajorityClass(Classification(), 0, 0).fit(rows(["x"] * 3, [2, 2, 0], "abc"))
    assert found.predict(rows(["y"] * 4, [0] * 4, "abc")).tolist() == [2] * 4


@pytest.mark.parametrize(
    "texts", [TRAIN, pa.array(TRAIN), pa.chunked_array([TRAIN[:5], TRAIN[5:]])]
)
def test_texts_come_in_lists_and_in_arrow(texts: Any) -> None:
    assert [text for block in blocks(texts) for text in block] == TRAIN
    assert picked(texts, np.array([1, 3])) == [TRAIN[1], TRAIN[3]]


def test_tfidf_learns_what_words_say() -> None:
    validation = rows(TRAIN[:4], TRUTH[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tfidf(rows(TRAIN, TRUTH), validation)
    assert found.predict(rows(["a good day", "a bad day"], [1, 0])).tolist() == [1, 0]
    assert found.predict(rows([], np.zeros(0, int))).tolist() == []


def test_a_class_without_training_rows_is_never_predicted() -> None:
    found = tfidf(rows(TRAIN, TRUTH * 2, "abcd"))
    predicted = found.predict(rows(["good", "bad", "film"], [0, 0, 0], "abcd"))
    assert set(predicted.tolist()) <= {0, 2} and predicted[:2].tolist() == [2, 0]


@pytest.mark.parametrize(("texts", "y"), [(["", " "] * 4, [0, 1] * 4), (TRAIN, [1] * 24)])
def test_nothing_to_count_or_to_tell_apart_is_no_baseline(texts: list[str], y: list[int]) -> None:
    assert tfidf(rows(texts, y), rows(texts, y)) is None


def test_sampling_keeps_every_class_and_is_said() -> None:
    y = np.r_[np.zeros(500, dtype=int), [1]]
    train, baseline = rows(["x"] * 501, y), TfidfClasses(Classification(), 20, 0)
    chosen = baseline.sample(train, y)
    assert len(chosen) == 20
    assert 500 in chosen
    assert (np.diff(chosen) > 0).all()
    assert baseline.notes == ["It was trained on 20 of the 501 training rows."]
    whole = TfidfClasses(Classification(), 501, 0)
    assert len(whole.sample(train, y)) == 501 and whole.notes == []


@pytest.mark.parametrize("name", ["tfidf_classes", "tfidf_labels", "tfidf_numbers", "tfidf_cosine"])
def test_the_most_rows_of_the_recipe_hold_for_every_task(name: str) -> None:
    """Some tasks had a limit of their own."""
    flags = np.stack([TRUTH, 1 - TRUTH], 1)
    scores = [str(n) for n in range(24)]
    task, train = {
        "tfidf_classes": (Classification(), rows(TRAIN, TRUTH)),
        "tfidf_labels": (Multilabel(), rows(TRAIN, flags)),
        "tfidf_numbers": (Regression(), rows(TRAIN, TRUTH, ["score"], score=scores)),
        "tfidf_cosine": (
            Regression(pairs=True),
            rows(TRAIN, TRUTH, ["score"], score=scores, sentence1=TRAIN, sentence2=TRAIN[::-1]),
        ),
    }[name]
    for most, said in ((10, ["It was trained on 10 of the 24 training rows."]), (24, [])):
        settings = Evaluate(baseline_rows=most)
        (found,) = fit_baselines(settings, task, [name], {}, {"train": train}, 0)
        assert found.notes == said
        assert len(found.predict(train)) == (2 if name == "tfidf_labels" else 24)
    assert not fit_baselines(Evaluate(baselines=False), task, [name], {}, {"train": train}, 0)
    assert not fit_baselines(Evaluate(), task, [name], {}, {}, 0), "a saved model meets new rows"


def test_much_text_is_counted_by_words_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "PIECE_CHARACTERS", 50)
    assert "whole words only" in tfidf(rows(TRAIN, TRUTH), rows(TRAIN, TRUTH)).notes[0]


def test_every_baseline_has_a_name_for_the_files() -> None:
    assert {one.name for one in BASELINES.values()} >= {"majority", "tfidf", "mean", "lead_1"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wanted"), [("tweet_emotion", 0.658), ("citation_intent", 0.692)])
def test_it_is_about_as_good_as_the_best_linear_model(
    name: str, wanted: float, shared_data: Path
) -> None:
    """Of classes of uneven size: the best of linear SVMs and logistic regressions with many C."""
    splits = {}
    for split in ("train", "validation", "test"):
        with (shared_data / name / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            splits[split] = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in splits["train"]})
    of = {split: rows([row["text"] for row in own], [labels.index(row["label"]) for row in own],
                      labels) for split, own in splits.items()}  # fmt: skip
    begun = time.perf_counter()
    fitted = tfidf(of["train"], of["validation"])
    truth = of["test"].store.targets
    found = f1_macro(tally(truth, fitted.predict(of["test"]), len(labels)))
    assert found >= wanted - 0.01
    assert time.perf_counter() - begun < 60
