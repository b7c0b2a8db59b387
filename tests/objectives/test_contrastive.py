"""The contrastive losses are what their papers say, written out row by row."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from learning import loss_of
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.objectives.contrastive import (
    NOTHING,
    Contrastive,
    cosent,
    cosine,
    ranking,
    supervised,
)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cos(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(cosine_similarity(one, other, dim=0))


@pytest.mark.parametrize("kinds", [2, 3])
def test_ranking(kinds: int) -> None:
    given = vectors(5, kinds, 8)
    names = torch.arange(5 * kinds).view(5, kinds)
    rows = []
    for i in range(5):
        scores = [20 * cos(given[i, 0], given[j, k]) for k in range(1, kinds) for j in range(5)]
        rows.append(math.log(sum(map(math.exp, scores))) - scores[i])
    assert float(ranking(given, names, 20.0)) == pytest.approx(sum(rows) / 5, rel=1e-5)


def test_what_is_right_too_is_no_negative() -> None:
    """The same positive twice, the same anchor twice, an anchor as a positive, no negative."""
    given = vectors(4, 3, 8)
    names = torch.tensor([[0, 10, 20], [1, 10, 21], [0, 12, NOTHING], [3, 1, 23]])
    allowed = {
        0: [(0, 1), (3, 1), (0, 2), (1, 2), (3, 2)],  # not row 1 (same positive) nor 2 (anchor)
        1: [(1, 1), (2, 1), (0, 2), (1, 2), (3, 2)],  # not 0 (same positive) nor 3 (is the anchor)
        2: [(2, 1), (1, 1), (3, 1), (0, 2), (1, 2), (3, 2)],
        3: [(3, 1), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (3, 2)],
    }
    rows = []
    for i, places in allowed.items():
        scores = [20 * cos(given[i, 0], given[j, k]) for j, k in places]
        rows.append(math.log(sum(map(math.exp, scores))) - scores[0])
    assert float(ranking(given, names, 20.0)) == pytest.approx(sum(rows) / 4, rel=1e-5)


def test_symmetric_is_the_mean_of_both_ways() -> None:
    given, names = vectors(5, 2, 8), torch.arange(10).view(5, 2)
    there, back = ranking(given, names, 20.0), ranking(given.flip(1), names.flip(1), 20.0)
    assert float(ranking(given, names, 20.0, True)) == pytest.approx(float((there + back) / 2))


def test_cosent() -> None:
    given, scores = vectors(5, 2, 8), torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0])
    found = [cos(*pair) for pair in given]
    total = 1.0
    for i in range(5):
        for j in range(5):
            if scores[i] < scores[j]:
                total += math.exp(20 * (found[i] - found[j]))
    assert float(cosent(given, scores, 20.0)) == pytest.approx(math.log(total), rel=1e-5)
    assert float(cosent(given, torch.ones(5), 20.0)) == 0.0


def test_cosine() -> None:
    given, scores = vectors(5, 2, 8), torch.rand(5, generator=torch.Generator().manual_seed(1))
    wanted = sum((cos(*pair) - float(y)) ** 2 for pair, y in zip(given, scores, strict=True)) / 5
    assert float(cosine(given, scores)) == pytest.approx(wanted, rel=1e-5)


def test_supervised() -> None:
    given, classes = vectors(6, 8), [0, 1, 0, 1, 1, 2]  # the last one has no mate
    rows = []
    for i in range(5):
        scores = {a: 20 * cos(given[i], given[a]) for a in range(6) if a != i}
        whole = math.log(sum(map(math.exp, scores.values())))
        mates = [a for a in scores if classes[a] == classes[i]]
        rows.append(sum(whole - scores[a] for a in mates) / len(mates))
    found = supervised(given, torch.tensor(classes), 20.0)
    assert float(found) == pytest.approx(sum(rows) / 5, rel=1e-5)
    assert float(supervised(given, torch.arange(6), 20.0)) == 0.0


def test_the_rows_say_which_loss() -> None:
    objective, pairs = Contrastive(), vectors(4, 2, 8)
    scores, names = torch.tensor([0.0, 0.3, 0.5, 1.0]), torch.arange(8).view(4, 2)
    classes = torch.tensor([0, 0, 1, 1])
    cases = [
        (objective, pairs, scores, cosent(pairs, scores, 20.0)),
        (Contrastive(scored_loss="cosine"), pairs, scores, cosine(pairs, scores)),
        (objective, pairs, names, ranking(pairs, names, 20.0)),
        (objective, pairs[:, :1], classes, supervised(pairs[:, 0], classes, 20.0)),
    ]
    for one, outputs, targets, mean in cases:
        total, weight = loss_of(one, outputs, targets)
        assert float(weight) == 4.0
        assert float(total / weight) == pytest.approx(float(mean))


@pytest.mark.parametrize(
    "keys", [{"task": "classification", "objective": "contrastive"},
             {"task": "embedding", "objective": "supervised"},
             {"task": "few_shot", "objective": "supervised"}],
)  # fmt: skip
def test_it_goes_with_its_own_tasks_alone(keys: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="does not train task"):
        Recipe.of(keys)
