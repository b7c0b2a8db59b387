"""The loss is torch's cross-entropy, in sums that can be divided as one likes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import cross_entropy

from learning import classifier, grads_of, loss_of, messages, ready, source_of, store_of, supervised
from warmstart.config.recipe import Recipe
from warmstart.data.sampling import class_weights
from warmstart.errors import RecipeError
from warmstart.objectives.supervised import span
from warmstart.training.loop import compute_gradients

WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_mean_is_torchs(smoothing: float, weights: torch.Tensor | None) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(13, 4) * 3, torch.randint(0, 4, (13,))
    aim = supervised(weights=weights, label_smoothing=smoothing)
    expected = cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    total, weight = loss_of(aim, logits, targets)
    torch.testing.assert_close(total / weight, expected)
    assert weight == (len(targets) if weights is None else weights[targets].sum())
    parts = [loss_of(aim, logits[i:j], targets[i:j]) for i, j in ((0, 1), (1, 9), (9, 13))]
    whole = sum(t for t, _ in parts) / sum(w for _, w in parts)
    torch.testing.assert_close(whole, expected)


def test_a_batch_counts_its_rows() -> None:
    _, weight = loss_of(supervised(), torch.zeros(3, 3), torch.tensor([2, 0, 1]))
    assert weight.dtype == torch.float32 and weight == 3


def test_balanced_is_scikit_learns() -> None:
    labels = np.array([0] * 50 + [1] * 7 + [2] * 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3), expected)


@pytest.mark.parametrize("gamma", [None, 0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_is_as_written(gamma: float | None, weights: torch.Tensor | None) -> None:
    """-w (1 - p)^gamma log p, row by row (Lin et al. 2017, equations 4 and 5)."""
    torch.manual_seed(1)
    logits, targets = torch.randn(13, 4) * 3, torch.randint(0, 4, (13,))
    aim = supervised(weights=weights, loss_function="focal", focal_gamma=gamma)
    power = 2.0 if gamma is None else gamma
    expected = 0.0
    for row, target in zip(logits.double(), targets, strict=True):
        p = float(row.exp()[target] / row.exp().sum())
        share = 1.0 if weights is None else float(weights[target])
        expected -= share * (1 - p) ** power * np.log(p)
    total, weight = loss_of(aim, logits, targets)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert weight == loss_of(supervised(weights=weights), logits, targets)[1]
    parts = [loss_of(aim, logits[i:j], targets[i:j]) for i, j in ((0, 1), (1, 9), (9, 13))]
    whole = sum(t for t, _ in parts) / sum(w for _, w in parts)
    torch.testing.assert_close(whole, total / weight)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_without_gamma_focal_is_cross_entropy(weights: torch.Tensor | None) -> None:
    torch.manual_seed(2)
    targets = torch.randint(0, 4, (9,))
    found = []
    for how in ({}, {"loss_function": "focal", "focal_gamma": 0.0}):
        aim = supervised(weights=weights, **how)
        torch.manual_seed(3)
        logits = (torch.randn(9, 4) * 3).requires_grad_()
        total, _ = loss_of(aim, logits, targets)
        total.backward()
        found.append((total.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_has_a_gradient_everywhere(gamma: float) -> None:
    """Also where the model is certain, rightly or wrongly."""
    logits = torch.tensor([[90.0, -90.0], [-90.0, 90.0], [0.0, 0.0]], requires_grad=True)
    aim = supervised(loss_function="focal", focal_gamma=gamma)
    total, _ = loss_of(aim, logits, torch.tensor([0, 0, 1]))
    total.backward()
    assert torch.isfinite(total) and logits.grad is not None
    assert torch.isfinite(logits.grad).all() and logits.grad[1].abs().min() > 0.5


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_focal_in_micro_batches_is_exact(family: str, tiny_of: Callable[[str], Path]) -> None:
    found = []
    for tokens in (10_000, 100):
        compute = ready(classifier(tiny_of(family)))
        store, pad = store_of(tiny_of(family), *messages(24, seed=6))
        aim = supervised(weights=torch.tensor([0.3, 2.0, 1.1]), loss_function="focal")
        source = source_of(store, compute, pad, aim, micro_batch_tokens=max(tokens, 16))
        batches = source.batches(np.arange(24), np.random.default_rng(0))
        loss, _, _ = compute_gradients(aim, compute, batches)
        found.append((len(batches), loss, grads_of(compute.model)))
    (one, loss, gradient), (many, again, parts) = found
    assert one == 1 and many > 3
    torch.testing.assert_close(loss, again, atol=1e-6, rtol=1e-6)
    for name in gradient:
        torch.testing.assert_close(parts[name], gradient[name], atol=1e-6, rtol=1e-4, msg=name)


BAD = [
    ("label_smoothing = 1.0", "label_smoothing"),
    ("class_weights = 'some'", "balanced"),
    ("temper = 1", "temper"),
    ("loss_function = 'hinge'", "focal"),
    ("loss_function = 'focal'\nlabel_smoothing = 0.1", "take one of the two"),
    ("focal_gamma = 2.0", "loss_function focal"),
    ("loss_function = 'focal'\nfocal_gamma = -1", "focal_gamma"),
]


@pytest.mark.parametrize(("key", "said"), BAD)
def test_bad_settings(key: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Recipe.from_toml(f"[objective]\nname = 'supervised'\n{key}")


def test_focal_goes_through_a_recipe_file() -> None:
    given = {"objective.loss_function": "focal", "objective.class_weights": "balanced"}
    recipe = Recipe.of(given)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_toml(recipe.commented()) == recipe


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_questions_does_not_count_padding(smoothing: float) -> None:
    lengths, width = torch.tensor([9, 4, 6]), 12
    logits, targets = torch.randn(3, width, 2), torch.tensor([[0, 8], [3, 3], [2, 5]])
    whole = span(logits, targets, smoothing, lengths)
    alone = [
        span(logits[i : i + 1, :n], targets[i : i + 1], smoothing, lengths[i : i + 1])
        for i, n in enumerate(lengths.tolist())
    ]
    theirs = [
        cross_entropy(logits[i, :n].T, targets[i], reduction="sum", label_smoothing=smoothing) / 2
        for i, n in enumerate(lengths.tolist())
    ]  # fmt: skip
    torch.testing.assert_close(whole, torch.stack(alone).sum())
    torch.testing.assert_close(whole, torch.stack(theirs).sum())
    logits[1, 4:] = 50.0
    torch.testing.assert_close(span(logits, targets, smoothing, lengths), whole)
