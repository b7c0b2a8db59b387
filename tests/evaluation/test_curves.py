"""Histories with a known fault get the right words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from warmstart import part as parts
from warmstart.evaluation.training_curve import Judged, Standing, read_curves


def history(
    train: list[float], loss: list[float], score: list[float], own: float | None = None
) -> list[dict[str, Any]]:
    rows = zip(train, loss, score, strict=True)
    return [
        {
            "epoch": i + 1,
            "step": 10 * (i + 1),
            "train_loss": a,
            "validation_loss": b,
            "validation_score": c,
            "train_score": own,
        }
        for i, (a, b, c) in enumerate(rows)
    ]


def test_nothing_and_one_point_are_no_curve() -> None:
    assert read_curves([]).verdict == "unknown"
    assert read_curves([{"step": 3, "train_loss": 1.0}]).verdict == "unknown"
    assert "only once" in read_curves(history([1.0], [1.0], [0.5])).sentence


def test_a_score_that_falls_again_is_overfitting() -> None:
    found = read_curves(history([1, 0.5, 0.2, 0.1], [0.9, 0.6, 0.8, 1.1], [0.6, 0.75, 0.72, 0.7]))
    assert (found.verdict, found.best_epoch) == ("overfitting", 2)
    assert "The weights of epoch 2 were kept" in found.sentence
    assert "fewer epochs (about 2)" in found.advice


def test_the_epoch_that_the_default_rule_kept_is_not_reprimanded() -> None:
    rows = history([1, 0.5, 0.2, 0.1], [0.9, 0.6, 0.8, 1.1], [0.6, 0.75, 0.72, 0.7])
    rows[3] |= {"kept": True, "kept_by": "one_se"}
    found = read_curves(rows)
    assert (found.verdict, found.best_epoch) == ("overfitting", 2)
    assert "score fell" not in found.sentence and "fewer epochs" not in found.advice
    assert "The weights of epoch 4 were kept: its score is within the noise" in found.sentence
    assert "that of epoch 2 (0.700 and 0.750), on so few validation rows" in found.sentence
    assert "confidence may be too high" in found.sentence
    assert "To keep epoch 2 instead, say --train.keep best." in found.advice


def test_the_last_epoch_was_kept_because_that_was_asked() -> None:
    rows = history([1, 0.5, 0.2, 0.1], [0.9, 0.6, 0.8, 1.1], [0.6, 0.75, 0.72, 0.7])
    rows[3] |= {"kept": True, "kept_by": "last"}
    found = read_curves(rows)
    assert "epoch 4 were kept, as train.keep = last asks; epoch 2 scored best" in found.sentence
    assert found.advice.startswith("Keep that one with --train.keep best, train for fewer epochs")


def test_a_loss_that_rises_while_the_score_holds_is_mild() -> None:
    found = read_curves(history([1, 0.5, 0.2], [0.9, 0.6, 0.7], [0.6, 0.75, 0.755]))
    assert found.verdict == "overfitting"
    assert "mild" in found.sentence


def test_still_improving_is_underfitting() -> None:
    found = read_curves(history([1, 0.9, 0.8], [1, 0.9, 0.8], [0.4, 0.5, 0.58]))
    assert found.verdict == "underfitting"
    assert "up 8.0 points" in found.sentence
    assert "for example 4" in found.advice


def test_rows_that_cannot_be_learned_are_underfitting() -> None:
    found = read_curves(history([1, 1, 1], [1, 1, 1], [0.4, 0.41, 0.41], own=0.45))
    assert found.verdict == "underfitting"
    assert "only 0.45" in found.sentence


def test_levelled_off_is_good() -> None:
    good = history([1, 0.6, 0.55], [0.9, 0.62, 0.61], [0.6, 0.75, 0.752])
    assert read_curves(good).verdict == "good"
    gap = history([1, 0.6, 0.55], [0.9, 0.62, 0.61], [0.6, 0.75, 0.752], own=0.99)
    assert "More labelled rows" in read_curves(gap).advice


def test_a_loss_that_still_falls_is_underfitting_whatever_the_score_says() -> None:
    silent = read_curves(history([0.7, 0.21], [0.31, 0.25], [0.0, 0.0]), score=0.0)
    assert silent.verdict == "underfitting"
    assert "0.31 to 0.25" in silent.sentence and "for example 3" in silent.advice
    late = history([1, 0.8, 0.7, 0.6], [1, 0.8, 0.7, 0.62], [0.8, 0.81, 0.811, 0.811])
    assert read_curves(late).verdict == "underfitting"
    slow = history(
        [1, 0.8, 0.7, 0.69, 0.689], [1, 0.7, 0.6, 0.599, 0.597], [0.8, 0.81, 0.811, 0.811, 0.811]
    )
    assert read_curves(slow).verdict == "good"
    perfect = history([1, 0.5, 0.2], [0.5, 0.2, 0.1], [0.9, 1.0, 1.0])
    assert read_curves(perfect).verdict == "good"


def test_a_curve_that_is_level_because_the_learning_rate_ran_out_is_no_good_one() -> None:
    train = [1.299, 1.08, 0.972, 0.888, 0.844, 0.816]
    loss = [1.162, 1.081, 1.042, 1.017, 1.003, 0.999]
    score = [0.454, 0.52, 0.535, 0.524, 0.509, 0.509]
    found = read_curves(history(train, loss, score))
    assert found.verdict == "underfitting"
    assert "looks level (best in epoch 3)" in found.sentence
    assert "validation 1.04 to 0.999, training 0.972 to 0.816" in found.sentence
    assert "may not have trained long enough" in found.sentence
    assert found.advice == "Train for more epochs, for example 12."
    early = [row | {"epochs": 20} for row in history(train, loss, score)]
    stopped = read_curves(early)
    assert "runs out" not in stopped.sentence and "long enough" in stopped.sentence
    assert "stopped in epoch 6 of 20" in stopped.advice and "--train.patience" in stopped.advice
    done = [0.24, 0.101, 0.071, 0.0565, 0.0559, 0.0556]
    assert read_curves(history(train, done, score)).verdict == "good"
    turned = [1.162, 1.081, 1.042, 0.98, 0.99, 0.999]
    assert read_curves(history(train, turned, score)).verdict == "good"


def test_a_small_score_is_judged_by_its_own_size() -> None:
    found = read_curves(history([9, 8], [8.1, 8.05], [0.008, 0.011]))
    assert found.verdict == "underfitting"
    assert "score was still rising" in found.sentence


def test_two_points_are_not_level() -> None:
    found = read_curves(history([1, 0.9], [0.6, 0.6], [0.75, 0.752]))
    assert found.verdict == "unknown"
    assert "levelled off" in found.sentence and "only 2 times" in found.sentence
    assert "for example 3" in found.advice


def test_what_is_noise_to_the_comparison_is_no_fault_of_the_training() -> None:
    level = history([1, 0.6, 0.55], [0.9, 0.62, 0.61], [0.6, 0.75, 0.752])
    plain = Standing("majority", "always the commonest class", 0.15, "better")
    counted = Standing("tfidf", "TF-IDF", 0.805, "noise")
    assert read_curves(level, 0.729, [plain, counted]).verdict == "good"


def test_a_model_has_to_be_told_from_one_that_never_looks() -> None:
    level = history([1, 0.6, 0.55], [0.9, 0.62, 0.61], [0.6, 0.75, 0.752])
    plain = Standing("majority", "always the commonest class", 0.48, "noise")
    found = read_curves(level, 0.47, [plain, Standing("tfidf", "TF-IDF", 0.45, "noise")])
    assert found.verdict == "underfitting"
    assert "cannot be told from “always the commonest class” (0.470 and 0.480)" in found.sentence
    unsure = read_curves(level, 0.7, [plain])
    assert unsure.advice.startswith("More test rows would tell.")
    sure = Standing("tfidf", "TF-IDF", 0.5, "better")
    assert read_curves(level, 0.7, [plain, sure]).verdict == "good", "it beats the best of them"


def test_what_learned_nothing_is_not_good() -> None:
    level = history([1, 0.6, 0.55], [0.9, 0.62, 0.61], [0.1, 0.15, 0.15])
    nothing = read_curves(level, score=0.0)
    assert (nothing.verdict, "scores 0.000" in nothing.sentence) == ("underfitting", True)
    plain = Standing("majority", "always the commonest class", 0.02, "better")
    behind = read_curves(level, 0.067, [plain, Standing("tfidf", "TF-IDF", 0.145, "worse")])
    assert behind.verdict == "underfitting"
    assert "0.067" in behind.sentence and "0.145" in behind.sentence
    ahead = [plain, Standing("tfidf", "TF-IDF", 0.145, "better")]
    assert read_curves(level, 0.2, ahead).verdict == "good"
    mild = history([1, 0.5, 0.2], [0.9, 0.6, 0.7], [0.0, 0.0, 0.0])
    assert "labels can be used" not in read_curves(mild, score=0.0).advice


def trained(
    rows: int, rng: np.random.Generator, rise: float = 0.0, epochs: int = 8
) -> list[dict[str, Any]]:
    """A training whose true validation loss is level from epoch 3 on, or rises until the end, as
    the logits grow by this factor. From epoch to epoch the logit of every row moves by chance."""
    odds, rows_seen = rng.normal(0, 2.5, rows), list[list[float]]()
    margin = np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), odds, -odds)
    for epoch in range(epochs):
        scale = [0.2, 0.5][epoch] if epoch < 2 else 0.94  # of the lowest true loss
        scale *= 1.0 + rise * max(0, epoch - 2) / (epochs - 3)
        logit = scale * (margin + rng.normal(0, 0.6, rows))
        rows_seen.append([0.8 * 0.85**epoch, float(np.logaddexp(0, -logit).mean()),
                          float((logit > 0).mean())])  # fmt: skip
    return history(*(list(column) for column in zip(*rows_seen, strict=True)))


def share_overfitting(rows: int, trials: int, **how: Any) -> float:
    rng = np.random.default_rng(rows)
    found = [read_curves(trained(rows, rng, **how), judged=Judged(rows)) for _ in range(trials)]
    return float(np.mean([one.verdict == "overfitting" for one in found]))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [50, 100, 200, 400, 1000])
def test_a_level_loss_is_seldom_called_overfitting(rows: int) -> None:
    false, seen = share_overfitting(rows, 2000), share_overfitting(rows, 500, rise=2.0)
    print(f"| {rows} | {false:.3f} | {seen:.2f} |")
    assert false <= 0.05
    assert seen >= (0.9 if rows >= 200 else 0.5)


def test_a_loss_that_wavers_on_few_rows_is_no_rise() -> None:
    assert share_overfitting(60, 200) <= 0.06
    assert share_overfitting(400, 50, rise=2.0) >= 0.9


def test_where_there_is_no_confidence_none_is_spoken_of() -> None:
    mild = history([1, 0.5, 0.2], [0.9, 0.6, 0.7], [0.6, 0.75, 0.755])
    found = read_curves(mild, judged=Judged(confident=False))
    assert found.verdict == "overfitting" and "mild" in found.sentence
    worse = history([1, 0.5, 0.2, 0.1], [0.9, 0.6, 0.8, 1.1], [0.6, 0.75, 0.72, 0.6])
    worse[3] |= {"kept": True, "kept_by": "one_se"}
    for said in (found, read_curves(worse, judged=Judged(confident=False))):
        assert "sure" not in said.sentence and "onfidence" not in said.sentence + said.advice
    for task, states in (("regression", False), ("embedding", False), ("tagging", True)):
        assert parts.find("task", task).head.states_confidence is states
