"""Preference objectives: what a pair costs, by hand; the reference; what makes a step exact."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preferences import PAIRS, Aligned, decoder, gap
from warmstart import part as parts
from warmstart.errors import RecipeError
from warmstart.objectives.preferences import REFERENCE, Pairs

ALL = ("dpo", "kto", "orpo", "simpo")
REFERRING = ("dpo", "kto")


def pairs(policy: Any, reference: Any = ((0.0, 0.0),), sizes: Any = ((2.0, 5.0),)) -> Pairs:
    return Pairs(*(torch.tensor(values, dtype=torch.float64)
                   for values in (policy, reference, sizes)))  # fmt: skip


def cost(name: str, own: Pairs, **settings: Any) -> float:
    objective: Any = parts.make("objective", name, settings)
    return float(objective.cost(own).sum())


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Hand cases. The chosen answer has 2 tokens and -3 nats, the rejected one 5 tokens and -5, so that
# sum and mean of a token disagree about which is likelier (trap 26).

CASE = pairs([[-3.0, -5.0]], [[-4.0, -4.0]])
"""Log-ratios 1 and -1; by token 0.5 and -0.2."""


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, -math.log(sigma(0.1 * 2))),
        ({"length_normalised": True}, -math.log(sigma(0.1 * 0.7))),
        ({"loss_type": "hinge"}, 1 - 0.1 * 2),
        ({"loss_type": "hinge", "beta": 0.6}, 0.0),
        ({"loss_type": "ipo"}, (0.7 - 5) ** 2),
        ({"label_smoothing": 0.2},
         -0.8 * math.log(sigma(0.2)) - 0.2 * math.log(sigma(-0.2))),
        ({"loss_type": "robust", "label_smoothing": 0.2},
         (-0.8 * math.log(sigma(0.2)) + 0.2 * math.log(sigma(-0.2))) / 0.6),
        ({"nll_weight": 0.5}, -math.log(sigma(0.2)) + 0.5 * 1.5),
        ({"reference_free": True, "length_normalised": True}, -math.log(sigma(0.1 * -0.5))),
    ],
)  # fmt: skip
def test_dpo_by_hand(settings: dict[str, Any], wanted: float) -> None:
    assert cost("dpo", CASE, **settings) == pytest.approx(wanted, rel=1e-9)


def test_kto_by_hand() -> None:
    """Mismatched answers at -1 and -2 under the model, -2 and -4 under the reference: z = 1.5."""
    own = pairs([[-3.0, -5.0, -1.0, -2.0]], [[-4.0, -4.0, -2.0, -4.0]])
    wanted = 2 * (1 - sigma(0.1 * (1 - 1.5))) + 3 * (1 - sigma(0.1 * (1.5 + 1)))
    settings = {"desirable_weight": 2.0, "undesirable_weight": 3.0}
    assert cost("kto", own, **settings) == pytest.approx(wanted, rel=1e-9)
    nearer = pairs([[-3.0, -5.0, -9.0, -9.0]], [[-4.0, -4.0, -2.0, -4.0]])
    wanted = 1 - sigma(0.1 * 1) + 1 - sigma(0.1 * 1)  # z is never below 0
    assert cost("kto", nearer) == pytest.approx(wanted, rel=1e-9)


def test_orpo_by_hand() -> None:
    """Equations 6 and 7 of Hong et al. 2024, with P the geometric mean of a token."""
    chosen, rejected = math.exp(-1.5), math.exp(-1.0)
    odds = chosen / (1 - chosen) / (rejected / (1 - rejected))
    wanted = 1.5 - 0.3 * math.log(sigma(math.log(odds)))
    assert cost("orpo", CASE, beta=0.3) == pytest.approx(wanted, rel=1e-9)
    sure = pairs([[-1e-12, -5.0]])
    assert math.isfinite(cost("orpo", sure))


def test_simpo_by_hand() -> None:
    """Equation 6 of Meng et al. 2024."""
    wanted = -math.log(sigma(2 * -1.5 - 2 * -1.0 - 0.5))
    assert cost("simpo", CASE, gamma=0.5) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("center", "margins", "wanted"),
    [
        (0.0, torch.tensor([-100, -100]), -math.log(sigma(1.5)) - math.log(sigma(-1.0))),
        (0.0, torch.tensor([1.0, 0.5]), -math.log(sigma(0.5)) - math.log(sigma(-1.5))),
        (0.1, torch.tensor([-100, -100]),
         -math.log(sigma(1.5)) - math.log(sigma(-1.0)) + 0.1 * (2.5**2 + 1.0**2)),
    ],
)  # fmt: skip
def test_reward_by_hand(center: float, margins: torch.Tensor, wanted: float) -> None:
    objective: Any = parts.make("objective", "reward", {"center": center})
    costs = objective.cost(torch.tensor([2.0, 0.0]), torch.tensor([0.5, 1.0]), margins)
    assert float(costs.sum()) == pytest.approx(wanted, rel=1e-6)


def test_smoothing_means_nothing_to_a_hinge() -> None:
    with pytest.raises(ValueError, match="label_smoothing has no meaning for loss_type hinge"):
        parts.make("objective", "dpo", {"loss_type": "hinge", "label_smoothing": 0.1})


# The reference.


@pytest.mark.parametrize("settings", [{}, {"length_normalised": True}, {"loss_type": "robust"}])
def test_at_the_first_step_margins_are_0_and_the_loss_is_ln_2(settings: dict[str, Any]) -> None:
    """Traps 23 and 24: also with dropout in the config."""
    model = decoder(attention_dropout=0.1).train()
    for block in model.model.layers:  # as GPT-2 has it
        block.mlp.down_proj = torch.nn.Sequential(block.mlp.down_proj, torch.nn.Dropout(0.1))
    it = Aligned("dpo", model, **settings)
    loss, _, figures = it.step()
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    assert figures["margin"] == pytest.approx(0, abs=1e-6)


def test_a_wrong_reference_would_be_noticed() -> None:
    it = Aligned("dpo", decoder(), reference=decoder(1))
    assert abs(it.step()[0] - math.log(2)) > 1e-3


@pytest.mark.parametrize("name", REFERRING)
def test_a_reference_out_of_the_run_is_the_one_that_was_computed(name: str, tmp_path: Path) -> None:
    """Trap 25: losses are those without a file, and fall."""
    bare = Aligned(name, decoder()).learn(20)
    first = Aligned(name, decoder(), folder=tmp_path)
    assert (tmp_path / REFERENCE).exists()
    second = Aligned(name, decoder(), folder=tmp_path, reference=decoder(5))  # is not asked
    targets = [it.session.datasets["train"].targets for it in (first, second)]
    assert np.array_equal(*targets) and targets[0].shape == (4, 2 if name == "dpo" else 4)
    assert second.learn(20) == pytest.approx(bare, abs=1e-6)
    assert bare[-1] < (0.6 if name == "dpo" else bare[0] - 0.05)


def test_a_reference_of_another_base_rows_or_type_is_asked_anew(tmp_path: Path) -> None:
    kept = Aligned("dpo", decoder(), folder=tmp_path).session.datasets["train"].targets
    other = Aligned("dpo", decoder(1), folder=tmp_path, sha="another").session.datasets["train"]
    assert np.abs(other.targets - kept).max() > 0.1
    fewer = Aligned("dpo", decoder(1), PAIRS[:2], folder=tmp_path, sha="another")
    assert len(fewer.session.datasets["train"].targets) == 2
    (tmp_path / REFERENCE).write_bytes(b"damaged")
    again = Aligned("dpo", decoder(), folder=tmp_path).session.datasets["train"].targets
    assert np.array_equal(again, kept)


@pytest.mark.parametrize(
    ("name", "settings"), [("orpo", {}), ("simpo", {}), ("dpo", {"reference_free": True})]
)
def test_no_reference_is_asked_where_none_is_needed(name: str, settings: dict[str, Any]) -> None:
    it = Aligned(name, decoder(), **settings)
    assert it.session.datasets["train"].targets.dtype.kind == "i"
    losses = it.learn(20)
    assert losses[-1] < losses[0] - 0.3


# A step.


@pytest.mark.parametrize("name", ALL)
def test_a_step_in_parts_has_the_gradient_of_the_whole(name: str) -> None:
    """Trap 19: with answers of unequal lengths; KTO's steps are never parted, see `Rows.micro`."""
    it = Aligned(name, decoder(), reference=decoder(1))
    whole, (loss, grads, figures) = it.rows.micro(np.arange(4), 12), it.step()
    if name == "kto":
        assert len(whole) == 1
        return
    assert len(whole) > 1
    parted = it.step([2], [0, 3], [1])
    assert parted[0] == pytest.approx(loss, abs=1e-6) and parted[2] == pytest.approx(figures)
    assert gap(parted[1], grads) < 1e-6


@pytest.mark.parametrize("name", ALL)
def test_figures_are_means_of_a_pair(name: str) -> None:
    it = Aligned(name, decoder(), reference=decoder(1))
    figures = it.step()[2]
    nll = it.rows.predict(it.forward).nll
    assert figures["chosen"] == pytest.approx(-nll[:, 0].mean(), rel=1e-5)
    assert figures["rejected"] == pytest.approx(-nll[:, 1].mean(), rel=1e-5)
    assert 0 <= figures["preferred"] <= 1


def test_an_encoder_is_refused_with_what_it_can_do() -> None:
    objective: Any = parts.make("objective", "dpo")
    with pytest.raises(RecipeError, match="trains a decoder, and 'bert' is an encoder; take"):
        objective.check_base({"model_type": "bert"}, "encoder", None)
