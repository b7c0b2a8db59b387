"""Every family learns a batch by heart; labels, probabilities and scores are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss

from learning import LABELS, base_of, classifier, fit, loss_of, supervised
from warmstart.metrics.base import softmax
from warmstart.models.architectures import FAMILIES
from warmstart.tasks.classification import Classification, class_answers, class_scores

Folder = Callable[[str], Path]
CLASSIFY = [name for name in FAMILIES if name != "pegasus"]


@pytest.mark.parametrize("family", CLASSIFY)
def test_one_batch_by_heart(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    model = classifier(tiny_of(family))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # away from the flat place where random weights of 0.02 begin
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator), alpha=0.1)
    run = fit(
        tiny_of(family), tmp_path, model=model, rows=9, batch_size=9,
        epochs=50, learning_rate=1e-2 if family == "t5" else 5e-3, patience=None,
    )  # fmt: skip
    progress = run.run()
    assert progress.history[0]["train_loss"] > 0.7
    assert progress.best_score == 1.0


def test_head_and_roles(tiny_of: Folder) -> None:
    task = Classification()
    model = task.build_model(base_of(tiny_of("bert")), LABELS, 0)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert "text" in task.roles["text"] and "label" in task.roles["label"]


def test_decode() -> None:
    logits = np.array([[0.0, 5.0, 1.0], [3.0, 3.0, -1.0], [-800.0, 0.0, 800.0]], np.float32)
    answers = class_answers(logits, LABELS)
    assert [a.value for a in answers] == ["good", "bad", "plain"]
    assert [a.id for a in answers] == ["0", "1", "2"]
    for answer in answers:
        assert sum(answer.scores.values()) == pytest.approx(1.0)
        assert list(answer.scores) == list(LABELS)
        assert answer.confidence == max(answer.scores.values()) == answer.scores[answer.value]
    assert answers[2].confidence == 1.0
    assert class_answers(logits[:0], LABELS) == []


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), rows=st.integers(1, 40), classes=st.integers(2, 6),
    missing=st.booleans(),
)  # fmt: skip
def test_scores_are_scikit_learns(seed: int, rows: int, classes: int, missing: bool) -> None:
    """Also where a class does not occur."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)).astype(np.float32) * 3
    targets = rng.integers(0, classes - missing, rows)
    found = class_scores(logits, targets)
    guess = logits.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, guess))
    expected = f1_score(targets, guess, labels=np.unique(targets), average="macro", zero_division=0)
    assert found["f1_macro"] == pytest.approx(expected)
    nll = log_loss(targets, softmax(logits), labels=np.arange(classes))
    total, weight = loss_of(supervised(), torch.from_numpy(logits), torch.from_numpy(targets))
    assert float(total / weight) == pytest.approx(nll, rel=1e-5, abs=1e-6)


def test_softmax() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32) * 20
    expected = torch.softmax(torch.from_numpy(logits).double(), -1).numpy()
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-12)
