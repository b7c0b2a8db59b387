"""Can the model be trusted? A short list of points, each good, to be watched, or bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from warmstart.evaluation.sentences import p_words, points, sentence
from warmstart.types import Metrics, RunReport

WORDS = {"good": "Good", "watch": "Watch", "bad": "Bad", "info": "Note"}
AGAINST = "Against simple methods"
SERIOUS = ("leak", "conflict", "contamin")  # kinds of notes on the data that touch the figures


class Point(NamedTuple):
    """One finding: `level` is a key of `WORDS`; `advice` may be empty."""

    level: str
    title: str
    text: str
    advice: str = ""

    @property
    def word(self) -> str:
        """The level in a word, so that colour is not needed to read it."""
        return WORDS[self.level]


def trust(report: RunReport) -> list[Point]:
    """All points that the report allows, the same ones in the same order each time."""
    metrics, listed = report.metrics, list[Point]()
    if metrics:
        listed.append(_comparison(metrics))
        if confidence := metrics.calibration:
            level = "good" if confidence.before.ece < 0.05 else "watch"
            level = "info" if "Too few" in confidence.sentence else level
            listed.append(Point(level, "Its confidence", confidence.sentence))
        if (curves := metrics.curves) and curves.verdict != "unknown":
            level = "good" if curves.verdict == "good" else "watch"
            listed.append(Point(level, "Its training", curves.sentence, curves.advice))
        if (lost := metrics.forgetting) and lost.outcome == "worse":
            listed.append(Point("watch", "What its base knew", lost.sentence, lost.advice))
    if "passed" in report.proof:
        level, text = "good", "was loaded afresh and gave the same answers as the trained model."
        if not report.proof["passed"]:
            level, text = "bad", "does not answer as the trained model did. Do not use it."
        listed.append(Point(level, "The saved model", f"The saved folder {text}"))
    if metrics:
        listed += [Point("watch", "Mind", note) for note in metrics.notes]
    notes: list[Any] = [n for n in report.data.get("notes", []) if isinstance(n, Mapping)]
    return listed + [
        Point("watch", "The data", str(note.get("message", "")))
        for note in notes
        if any(word in str(note.get("kind", "")).lower() for word in SERIOUS)
    ]


def _comparison(metrics: Metrics) -> Point:
    """Against the best baseline."""
    comparison = metrics.comparison
    if not comparison:
        return Point("info", "Baselines", "None were computed, so the score stands alone.")
    if comparison.outcome == "better":
        gap, p = points(comparison.difference * metrics.scale), p_words(comparison.p_value)
        text = f"It beats the best of them, {comparison.title}, by {gap} points. "
        return Point("good", AGAINST, f"{text}A gap like this is unlikely to be chance ({p}).")
    level = "bad" if comparison.outcome == "worse" else "watch"
    advice = "More test rows would tell."
    if comparison.outcome == "worse" or comparison.difference <= 0:
        advice = "On these rows the simpler method is the better buy."
    return Point(level, AGAINST, sentence(comparison.sentence), advice)
