"""The loss is torch's cross-entropy, in sums that can be divided as one likes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from warmstart.data.balance import class_weights
from warmstart.errors import RecipeError
from warmstart.objectives.supervised import Supervised
from warmstart.recipe import Recipe

WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_mean_is_torchs(smoothing: float, weights: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(13, 4) * 3, torch.randint(0, 4, (13,))
    aim = Supervised(label_smoothing=smoothing)
    expected = cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    total, weight = aim.loss(logits, targets, weights)
    torch.testing.assert_close(total / weight, expected)
    assert torch.equal(weight, aim.weight(targets, weights))
    parts = [aim.loss(logits[i:j], targets[i:j], weights) for i, j in ((0, 1), (1, 9), (9, 13))]
    whole = sum(t for t, _ in parts) / sum(w for _, w in parts)
    torch.testing.assert_close(whole, expected)


def test_a_batch_counts_its_rows() -> None:
    weight = Supervised().weight(torch.tensor([2, 0, 1]))
    assert weight.dtype == torch.float32 and weight == 3


def test_balanced_is_scikit_learns() -> None:
    labels = np.array([0] * 50 + [1] * 7 + [2] * 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3), expected)


@pytest.mark.parametrize("key", ["label_smoothing = 1.0", "class_weights = 'some'", "temper = 1"])
def test_bad_settings(key: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_toml(f"[objective]\nname = 'supervised'\n{key}")
