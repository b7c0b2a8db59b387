"""The fitted head gives scikit-learn's own probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from warmstart.metrics.base import softmax
from warmstart.training.frozen_features import fitted_head


def rows(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    targets = np.arange(n) % classes
    return rng.normal(size=(n, 6)) + 3 + targets[:, None] * np.eye(6)[0] * 2, targets


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_as_scikit_learn(classes: int, bias: bool) -> None:
    features, targets = rows(60, classes)
    weight, shift = fitted_head(features.astype(np.float32), targets, classes, 10.0, bias=bias)
    assert (shift is None) == (not bias)
    middle = features.mean(0) if bias else 0.0
    given = (features - middle) / np.linalg.norm(features - middle, axis=1).mean()
    model = LogisticRegression(C=10.0, max_iter=500, fit_intercept=bias).fit(given, targets)
    logits = features @ weight.numpy().T + (0.0 if shift is None else shift.numpy())
    np.testing.assert_allclose(softmax(logits), model.predict_proba(given), atol=2e-4)


def test_a_class_without_rows_is_never_said() -> None:
    features, targets = rows(30, 3)
    weight, bias = fitted_head(features, targets + (targets == 2), 4, 10.0, bias=True)  # no 2
    assert bias is not None
    said = (features @ weight.numpy().T + bias.numpy()).argmax(1)
    assert set(said.tolist()) <= {0, 1, 3}
