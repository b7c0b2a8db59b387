"""Did training stop too early, too late, or well? Read from the history, said in plain words.

A history row is what the loop yields at an evaluation: `epoch`, `step`, `train_loss`,
`validation_loss`, `validation_score` (higher is better) and, where measured, `train_score`; then
whether its weights were `kept`, `kept_by` which rule (`train.keep`), and how many `epochs` were
asked for. Losses are means in nats. A row without a validation score is skipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from warmstart.evaluation.sentences import figure
from warmstart.metrics.base import score_error

TRIVIAL = ("majority", "frequent", "mean", "nothing")  # baselines that never look at the text
ADVICE = (
    "Train for more epochs, try a higher learning rate or a method that moves more weights (full), "
    "or bring more rows."
)
RISING = 1.05  # validation loss this much above its best has risen
WAVERING = 1.8  # of n rows the mean loss wavers, from its lowest, by this share over sqrt(n)
FALLING = 0.97  # training loss this much below has fallen
GAIN = 0.005  # half a point of score in the last round: still learning
SMALL_GAIN = 0.1  # of a small score this share of itself is as much
STILL_FALLING = 0.1  # share of the whole fall of the validation loss that the last round brought
VISIBLE = 0.02  # and the share of the loss itself below which a fall is no fall
LEVEL = 3  # rounds before anything can have levelled off
HARM = 0.01  # one point of score below the best, where that is beyond its noise: it did harm
GAP = 0.15  # training score this far above the validation score: learned by heart
LOW = 0.70  # a training score below this has not fitted its own rows


class Standing(NamedTuple):
    """A baseline's main figure, and how the model stands against it: `outcome` is "better",
    "worse" or "noise", of the paired comparison on the test rows."""

    name: str
    title: str
    value: float
    outcome: str


class Curves(NamedTuple):
    """`verdict` is "good", "underfitting", "overfitting" or "unknown"; the rest explains it."""

    verdict: str
    sentence: str
    advice: str
    best_epoch: float | None = None


class Judged(NamedTuple):
    """What the validation figures are of: how many rows (None: not known), whether the model states
    a confidence, and the worst and the best that the score can be."""

    rows: int | None = None
    confident: bool = True
    span: tuple[float, float] = (0.0, 1.0)


UNKNOWN = Judged()
Row = Mapping[str, Any]
Reading = tuple[str, str, str] | None  # verdict, sentence, advice


def read_curves(
    history: Sequence[Row],
    score: float | None = None,
    baselines: Sequence[Standing] = (),
    judged: Judged = UNKNOWN,
) -> Curves:
    """The verdict on a history; "unknown" where there is too little of it.

    Args:
        history: the rows, in order.
        score: the main figure on the test rows.
        baselines: how the model stands against each baseline.
        judged: what the figures of the history are of.
    """
    rows = [row for row in history if row.get("validation_score") is not None]
    if not rows:
        return Curves("unknown", "There is no training history to read.", "")
    best, missed = max(rows, key=lambda row: row["validation_score"]), not_learned(score, baselines)
    if len(rows) == 1:
        reading = (
            "unknown",
            "The model was looked at only once during training, so there is no curve to read.",
            "Train for more epochs to see whether it still improves.",
        )
    else:  # overfitting first: a loss that rises outweighs a score that still creeps up
        reading = (
            _overfitting(rows, best, missed, judged)
            or _underfitting(rows)
            or missed
            or _short(rows)
            or _slowed(rows, best)
            or _good(rows, best)
        )
    return Curves(*reading, best.get("epoch"))


def not_learned(score: float | None, baselines: Sequence[Standing]) -> Reading:
    """Whether the task was learned at all, whatever the curves look like.

    It never says more than the comparisons do: that a model is behind a baseline counts only where
    the difference is no noise, and a baseline that never looks at the text has to be beaten.
    """
    best = max(baselines, key=lambda row: row.value, default=None)
    trivial = next((row for row in baselines if row.name in TRIVIAL), None)
    if score is None or (best and best.outcome == "better"):
        return None
    advice = ADVICE
    if score <= 0:
        text = f"The model has not learned the task: on the test rows it scores {figure(score)}."
    elif best and best.outcome == "worse":
        text = (
            "The model has not learned what there is to learn: on the test rows it scores "
            f"{figure(score)}, and the best baseline {figure(best.value)}."
        )
    elif trivial and trivial.outcome != "better":
        text = (
            "It is not shown that the model has learned the task: on the test rows it cannot be "
            f"told from “{trivial.title}” ({figure(score)} and {figure(trivial.value)})."
        )
        if score > trivial.value:
            advice = f"More test rows would tell. {ADVICE}"
    else:
        return None
    return "underfitting", text, advice


def _overfitting(rows: Sequence[Row], best: Row, missed: Reading, judged: Judged) -> Reading:
    """Validation loss up from its lowest while training loss went on falling.

    The loss of the same few rows wavers from epoch to epoch, and the lowest of several is low by
    chance too: `WAVERING` keeps false alarms below 5 % (`tests/evaluation/test_curves.py`).
    """
    known = _with_loss(rows)
    if len(known) < 2:
        return None
    lowest, last = min(known, key=lambda row: row["validation_loss"]), known[-1]
    noise = WAVERING / math.sqrt(judged.rows) if judged.rows else 0.0
    floor = lowest["validation_loss"]
    rose = last["validation_loss"] > floor + max(RISING - 1, noise) * abs(floor)
    if not rose or not _fell(lowest, last):
        return None
    text = f"From {_epoch(lowest)} on the training loss kept falling while the validation loss rose"
    highest = best["validation_score"]
    slack = score_error(highest, judged.rows, judged.span) if judged.rows else 0.0
    if last["validation_score"] < highest - max(HARM * judged.span[1], slack):
        rest, advice = _kept(next((row for row in rows if row.get("kept")), best), best, judged)
        return "overfitting", text + rest, advice
    level = f"{text}. The score did not suffer (best in {_epoch(best)})"
    if not judged.confident:
        advice = "The answers can be used. Fewer epochs, or more rows, would keep the loss low."
        return missed or ("overfitting", f"{level}: mild overfitting.", advice)
    return missed or (
        "overfitting",
        f"{level}, but the model grew too sure of itself: mild overfitting.",
        "The labels can be used. For confidence that can be trusted, use the corrected confidence "
        "if there is one, fewer epochs, or more rows.",
    )


def _kept(kept: Row, best: Row, judged: Judged) -> tuple[str, str]:
    """The rest of a sentence on a score that fell, and advice, by the rule of the kept epoch."""
    fell = f", and the score fell too: overfitting. The weights of {_epoch(kept)} were kept"
    about = _epoch(best).removeprefix("epoch ")
    fewer = f"rain for fewer epochs (about {about}), or bring more or more varied rows."
    if kept.get("epoch") == best.get("epoch"):
        return f"{fell}.", f"T{fewer}"
    if kept.get("kept_by") == "last":
        text = f"{fell}, as train.keep = last asks; {_epoch(best)} scored best."
        return text, f"Keep that one with --train.keep best, t{fewer}"
    text = (
        f". The weights of {_epoch(kept)} were kept: its score is within the noise of the best, "
        f"that of {_epoch(best)} ({kept['validation_score']:.3f} and "
        f"{best['validation_score']:.3f}), on so few validation rows."
    )
    if judged.confident:
        text += " Its confidence may be too high, as the loss has risen."
    return text, f"More rows would tell. To keep {_epoch(best)} instead, say --train.keep best."


def _underfitting(rows: Sequence[Row]) -> Reading:
    """Still improving when training ended, or not even its own training rows learned."""
    score, own = rows[-1]["validation_score"], rows[-1].get("train_score")
    gain = score - max(row["validation_score"] for row in rows[:-1])
    losses = [row["validation_loss"] for row in _with_loss(rows)]
    before = min(losses[:-1], default=0.0)
    rising = ""
    if gain > 0 and gain >= min(GAIN, SMALL_GAIN * score):
        nats = "validation_perplexity" in rows[-1]  # of a language model: no share
        amount = f"{gain:.3f} nats" if nats else f"{100 * gain:.1f} points"
        rising = f"score was still rising when training ended (up {amount}"
    elif len(losses) > 1 and score != 1.0 and _clear_fall(before, losses[-1], max(losses)):
        rising = f"loss was still falling when training ended ({before:.3g} to {losses[-1]:.3g}"
    if rising:
        text = f"The validation {rising} in the last round): the model could learn more."
        return "underfitting", text, _train_on(rows, _more(rows))
    if own is not None and own < LOW and own - score < GAP:
        return (
            "underfitting",
            f"Even on its own training rows the model scores only {own:.2f}.",
            "Try a higher learning rate, a method that moves more weights (full), a larger base "
            "model, or check whether the labels can be told from the text.",
        )
    return None


def _short(rows: Sequence[Row]) -> Reading:
    """Too few points to say that a line is level."""
    if len(rows) >= LEVEL:
        return None
    return (
        "unknown",
        f"The model was looked at only {len(rows)} times during training: too few to say whether "
        "its score has levelled off.",
        f"Train for more epochs, for example {max(LEVEL, _more(rows))}, to see.",
    )


def _slowed(rows: Sequence[Row], best: Row) -> Reading:
    """A score that is level only because the learning rate ran out: both losses, the validation
    loss to its lowest, still fell by a good part over the second half of the training."""
    known = _with_loss(rows)
    if len(known) < LEVEL or rows[-1]["validation_score"] == 1.0:
        return None
    middle, last = known[(len(known) - 1) // 2], known[-1]
    losses = [row["validation_loss"] for row in known]
    before, after = middle["validation_loss"], last["validation_loss"]
    clear = _clear_fall(before, after, max(losses))
    if after > min(losses) or not clear or not _fell(middle, last):
        return None
    why = "" if _stopped(rows) else ": a learning rate that runs out makes any curve level"
    text = (
        f"The validation score looks level (best in {_epoch(best)}), but from {_epoch(middle)} to "
        f"{_epoch(last)} the losses still fell (validation {before:.3g} to {after:.3g}, training "
        f"{middle['train_loss']:.3g} to {last['train_loss']:.3g}){why}. The model may not have "
        "trained long enough."
    )
    return "underfitting", text, _train_on(rows, 2 * _ended(rows))


def _good(rows: Sequence[Row], best: Row) -> tuple[str, str, str]:
    """The score has levelled off and the losses agree."""
    score, own = rows[-1]["validation_score"], rows[-1].get("train_score")
    agree = " and the losses agree" if _with_loss(rows) else ""
    text = f"The validation score levelled off (best in {_epoch(best)}){agree}."
    if own is None or own - score <= GAP:
        return "good", text, "Longer training is unlikely to help."
    text += (
        f" The model knows its training rows far better (score {own:.2f}) than new ones "
        f"({score:.2f})."
    )
    return "good", text, "More labelled rows would help most."


def _with_loss(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.get("validation_loss") is not None]


def _clear_fall(before: float, after: float, highest: float) -> bool:
    """Whether a loss fell by a good part of its whole fall, and of itself."""
    fall = before - after
    return fall > 0 and fall >= STILL_FALLING * (highest - after) and fall >= VISIBLE * abs(before)


def _fell(before: Row, after: Row) -> bool:
    """Whether the training loss went down between two rows."""
    first, second = before.get("train_loss"), after.get("train_loss")
    return first is not None and second is not None and second < FALLING * first


def _epoch(row: Row) -> str:
    """The epoch of a row, in words."""
    return f"epoch {float(row.get('epoch') or 0):g}"


def _ended(rows: Sequence[Row]) -> float:
    """The epoch in which training ended."""
    return float(rows[-1].get("epoch") or len(rows))


def _more(rows: Sequence[Row]) -> int:
    """Half as many epochs again, at least one more."""
    return max(int(_ended(rows)) + 1, round(1.5 * _ended(rows)))


def _stopped(rows: Sequence[Row]) -> bool:
    """Whether training ended before the epochs that were asked for."""
    return _ended(rows) < float(rows[-1].get("epochs") or 0)


def _train_on(rows: Sequence[Row], epochs: float) -> str:
    """Advice to train for so many epochs, or to let those be trained that were asked for."""
    if not _stopped(rows):
        return f"Train for more epochs, for example {epochs:g}."
    return (
        f"Training stopped in {_epoch(rows[-1])} of {rows[-1]['epochs']:g}, as the score rose no "
        "more: give it a higher --train.patience."
    )
