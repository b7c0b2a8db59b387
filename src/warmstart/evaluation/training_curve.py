"""Did training stop too early, too late, or well? Read from the history, said in plain words.

A history row is what the loop yields at an evaluation: `epoch`, `step`, `train_loss`,
`validation_loss`, `validation_score` (higher is better) and, where measured, `train_score`; then
whether its weights were `kept`, `kept_by` which rule (`train.keep`), and how many `epochs` were
asked for. Losses are means in nats. A row without a validation score is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from warmstart.evaluation.sentences import figure

# Was the task learned at all? Read from the paired comparisons with the baselines.

TRIVIAL = ("majority", "frequent", "mean", "nothing")  # baselines that never look at the text
ADVICE = (
    "Train for more epochs, try a higher learning rate or a method that moves more weights (full), "
    "or bring more rows."
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A baseline's main figure, and how the model stands against it: `outcome` is "better",
    "worse" or "noise", of the paired comparison on the test rows."""

    name: str
    title: str
    value: float
    outcome: str


def standings(baselines: Sequence[Mapping[str, Any]], main: str) -> list[Standing]:
    """The standings against the baselines of metrics.json."""
    return [
        Standing(row["name"], row["title"], row[main]["value"], row["outcome"]) for row in baselines
    ]


def not_learned(score: float | None, baselines: Sequence[Standing]) -> tuple[str, str] | None:
    """A sentence on a task that was not learned, whatever the curves look like, and advice.

    It never says more than the comparisons do: that a model is behind a baseline counts only where
    the difference is no noise, and a baseline that never looks at the text has to be beaten.
    """
    if score is None:
        return None
    best = max(baselines, key=lambda row: row.value, default=None)
    trivial = next((row for row in baselines if row.name in TRIVIAL), None)
    if best and best.outcome == "better":
        return None
    if score <= 0:
        text = f"The model has not learned the task: on the test rows it scores {figure(score)}."
    elif best and best.outcome == "worse":
        text = (
            "The model has not learned what there is to learn: on the test rows it scores "
            f"{figure(score)}, and the best baseline {figure(best.value)}."
        )
    elif trivial and trivial.outcome != "better":
        return _untold(score, trivial)
    else:
        return None
    return text, ADVICE


def _untold(score: float, trivial: Standing) -> tuple[str, str]:
    """What is said of a model that is not told from a baseline which never looks at the text."""
    figures = f"“{trivial.title}” ({figure(score)} and {figure(trivial.value)})"
    text = (
        f"It is not shown that the model has learned the task: on the test rows it cannot be told "
        f"from {figures}."
    )
    return text, f"More test rows would tell. {ADVICE}" if score > trivial.value else ADVICE


RISING = 1.05  # validation loss this much above its best has risen
FALLING = 0.97  # training loss this much below has fallen
GAIN = 0.005  # half a point of score in the last round: still learning
SMALL_GAIN = 0.1  # of a small score this share of itself is as much
STILL_FALLING = 0.1  # share of the whole fall of the validation loss that the last round brought
VISIBLE = 0.02  # and the share of the loss itself below which a fall is no fall
LEVEL = 3  # rounds before anything can have levelled off
HARM = 0.01  # one point of score below the best: training on did harm
GAP = 0.15  # training score this far above the validation score: learned by heart
LOW = 0.70  # a training score below this has not fitted its own rows


@dataclass(frozen=True, slots=True)
class Curves:
    """`verdict` is "good", "underfitting", "overfitting" or "unknown"; the rest explains it."""

    verdict: str
    sentence: str
    advice: str
    best_epoch: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_curves(
    history: Sequence[Mapping[str, Any]],
    score: float | None = None,
    baselines: Sequence[Standing] = (),
) -> Curves:
    """The verdict on a history; "unknown" where there is too little of it.

    Args:
        history: the rows, in order.
        score: the main figure on the test rows.
        baselines: how the model stands against each baseline.
    """
    rows = [row for row in history if row.get("validation_score") is not None]
    if not rows:
        return Curves("unknown", "There is no training history to read.", "")
    best = max(rows, key=lambda row: row["validation_score"])
    if len(rows) == 1:
        return _single(best)
    missed = not_learned(score, baselines)
    poor = Curves("underfitting", *missed, best.get("epoch")) if missed else None
    # Overfitting is asked first: a loss that rises outweighs a score that still creeps up.
    return (
        _overfitting(rows, best, poor)
        or _underfitting(rows, best)
        or poor
        or _short(rows, best)
        or _slowed(rows, best)
        or _good(rows, best)
    )


def _single(row: Mapping[str, Any]) -> Curves:
    """One evaluation shows a point, not a curve."""
    return Curves(
        "unknown",
        "The model was looked at only once during training, so there is no curve to read.",
        "Train for more epochs to see whether it still improves.",
        row.get("epoch"),
    )


def _overfitting(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], poor: Curves | None
) -> Curves | None:
    """Validation loss up from its lowest while training loss went on falling."""
    known = [row for row in rows if row.get("validation_loss") is not None]
    if len(known) < 2:
        return None
    lowest, last = min(known, key=lambda row: row["validation_loss"]), known[-1]
    rose = last["validation_loss"] > RISING * lowest["validation_loss"]
    if not rose or not _fell(lowest, last):
        return None
    turn = _epoch(lowest)
    text = f"From {turn} on the training loss kept falling while the validation loss rose"
    if last["validation_score"] < best["validation_score"] - HARM:
        kept = next((row for row in rows if row.get("kept")), best)
        rest, advice = _kept(kept, best)
        text += rest
    elif poor is not None:
        return poor
    else:
        text += (
            f". The score did not suffer (best in {_epoch(best)}), but the model grew too sure of "
            "itself: mild overfitting."
        )
        advice = (
            "The labels can be used. For confidence that can be trusted, use the corrected "
            "confidence if there is one, fewer epochs, or more rows."
        )
    return Curves("overfitting", text, advice, best.get("epoch"))


def _kept(kept: Mapping[str, Any], best: Mapping[str, Any]) -> tuple[str, str]:
    """The rest of a sentence on a score that fell, and advice, by the rule of the kept epoch."""
    fell = f", and the score fell too: overfitting. The weights of {_epoch(kept)} were kept"
    fewer = f"rain for fewer epochs (about {_number(best)}), or bring more or more varied rows."
    if kept.get("epoch") == best.get("epoch"):
        return f"{fell}.", f"T{fewer}"
    if kept.get("kept_by") == "last":
        text = f"{fell}, as train.keep = last asks; {_epoch(best)} scored best."
        return text, f"Keep that one with --train.keep best, t{fewer}"
    scores = f"{kept['validation_score']:.3f} and {best['validation_score']:.3f}"
    text = (
        f". The weights of {_epoch(kept)} were kept: its score is within the noise of the best, "
        f"that of {_epoch(best)} ({scores}), on so few validation rows. Its confidence may be too "
        "high, as the loss has risen."
    )
    return text, f"More rows would tell. To keep {_epoch(best)} instead, say --train.keep best."


def _underfitting(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Curves | None:
    """Still improving when training ended, or not even its own training rows learned."""
    last, before = rows[-1], max(row["validation_score"] for row in rows[:-1])
    gain = last["validation_score"] - before
    if gain > 0 and gain >= min(GAIN, SMALL_GAIN * last["validation_score"]):
        return _longer(
            rows,
            best,
            f"The validation score was still rising when training ended (up {100 * gain:.1f} "
            "points in the last round): the model could learn more.",
        )
    if fell := _still_falling(rows):
        return _longer(
            rows,
            best,
            f"The validation loss was still falling when training ended ({fell[0]:.3g} to "
            f"{fell[1]:.3g} in the last round): the model could learn more.",
        )
    own = last.get("train_score")
    if own is not None and own < LOW and own - last["validation_score"] < GAP:
        return Curves(
            "underfitting",
            f"Even on its own training rows the model scores only {own:.2f}.",
            "Try a higher learning rate, a method that moves more weights (full), a larger base "
            "model, or check whether the labels can be told from the text.",
            best.get("epoch"),
        )
    return None


def _longer(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], sentence: str) -> Curves:
    return Curves("underfitting", sentence, _train_on(rows, _more(rows)), best.get("epoch"))


def _train_on(rows: Sequence[Mapping[str, Any]], epochs: float) -> str:
    """Advice to train for so many epochs, or to let those be trained that were asked for."""
    if not _stopped(rows):
        return f"Train for more epochs, for example {epochs:g}."
    return (
        f"Training stopped in {_epoch(rows[-1])} of {rows[-1]['epochs']:g}, as the score rose no "
        "more: give it a higher --train.patience."
    )


def _stopped(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether training ended before the epochs that were asked for."""
    return _ended(rows) < float(rows[-1].get("epochs") or 0)


def _still_falling(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The validation loss before and after the last round, where that brought a good part of its
    whole fall and some rows are still wrong."""
    known = [row["validation_loss"] for row in rows if row.get("validation_loss") is not None]
    if len(known) < 2 or rows[-1]["validation_score"] == 1.0:
        return None
    before, last = min(known[:-1]), known[-1]
    fall, whole = before - last, max(known) - last
    clear = fall >= STILL_FALLING * whole and fall >= VISIBLE * abs(before)
    return (before, last) if fall > 0 and clear else None


def _short(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Curves | None:
    """Too few points to say that a line is level."""
    if len(rows) >= LEVEL:
        return None
    return Curves(
        "unknown",
        f"The model was looked at only {len(rows)} times during training: too few to say whether "
        "its score has levelled off.",
        f"Train for more epochs, for example {max(LEVEL, _more(rows))}, to see.",
        best.get("epoch"),
    )


def _slowed(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Curves | None:
    """A score that is level only because the learning rate ran out: both losses, the validation
    loss to its lowest, still fell by a good part over the second half of the training."""
    known = [row for row in rows if row.get("validation_loss") is not None]
    if len(known) < LEVEL or rows[-1]["validation_score"] == 1.0:
        return None
    middle, last = known[(len(known) - 1) // 2], known[-1]
    losses = [row["validation_loss"] for row in known]
    before, after = middle["validation_loss"], last["validation_loss"]
    fall, whole = before - after, max(losses) - after
    clear = fall >= STILL_FALLING * whole and fall >= VISIBLE * abs(before)
    if fall <= 0 or after > min(losses) or not clear or not _fell(middle, last):
        return None
    text = (
        f"The validation score looks level (best in {_epoch(best)}), but from {_epoch(middle)} to "
        f"{_epoch(last)} the losses still fell (validation {before:.3g} to {after:.3g}, training "
        f"{middle['train_loss']:.3g} to {last['train_loss']:.3g})"
    )
    if not _stopped(rows):
        text += ": a learning rate that runs out makes any curve level"
    text += ". The model may not have trained long enough."
    return Curves("underfitting", text, _train_on(rows, 2 * _ended(rows)), best.get("epoch"))


def _good(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Curves:
    """The score has levelled off and the losses agree."""
    last = rows[-1]
    text = f"The validation score levelled off (best in {_epoch(best)}) and the losses agree."
    own = last.get("train_score")
    if own is not None and own - last["validation_score"] > GAP:
        text += (
            f" The model knows its training rows far better (score {own:.2f}) than new ones "
            f"({last['validation_score']:.2f})."
        )
        return Curves("good", text, "More labelled rows would help most.", best.get("epoch"))
    return Curves("good", text, "Longer training is unlikely to help.", best.get("epoch"))


def _fell(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the training loss went down between two rows."""
    first, second = before.get("train_loss"), after.get("train_loss")
    return first is not None and second is not None and second < FALLING * first


def _number(row: Mapping[str, Any]) -> str:
    """The epoch of a row: 3, or 2.5."""
    return f"{float(row.get('epoch') or 0):g}"


def _epoch(row: Mapping[str, Any]) -> str:
    """The epoch of a row, in words."""
    return f"epoch {_number(row)}"


def _more(rows: Sequence[Mapping[str, Any]]) -> int:
    """Half as many epochs again, at least one more."""
    epochs = _ended(rows)
    return max(int(epochs) + 1, round(1.5 * epochs))


def _ended(rows: Sequence[Mapping[str, Any]]) -> float:
    """The epoch in which training ended."""
    return float(rows[-1].get("epoch") or len(rows))
