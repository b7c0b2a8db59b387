"""Can the model be trusted? A short list of points, each good, to be watched, or bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warmstart.evaluation.sentences import p_words, points, sentence
from warmstart.types import Calibration, Metrics, RunReport, Verdict

WORDS = {"good": "Good", "watch": "Watch", "bad": "Bad", "info": "Note"}

AGAINST = "Against simple methods"


@dataclass(frozen=True, slots=True)
class Point:
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
    metrics, listed = report.metrics, [_proof(report.proof)]
    if metrics:
        listed = [
            _comparison(metrics),
            _calibration(metrics.calibration),
            _curves(metrics.curves),
            _forgetting(metrics.forgetting),
            *listed,
            *(Point("watch", "Mind", note) for note in metrics.notes),
        ]
    listed += [_data_note(note) for note in report.data.get("notes", []) if _serious(note)]
    return [point for point in listed if point]


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


def _calibration(calibration: Calibration | None) -> Point | None:
    """Whether confidence means what it says."""
    if not calibration:
        return None
    level = "good" if calibration.before.ece < 0.05 else "watch"
    level = "info" if "Too few" in calibration.sentence else level
    return Point(level, "Its confidence", calibration.sentence)


def _curves(curves: Verdict | None) -> Point | None:
    """How training went."""
    if not curves or curves.verdict == "unknown":
        return None
    level = "good" if curves.verdict == "good" else "watch"
    return Point(level, "Its training", curves.sentence, curves.advice)


def _forgetting(forgetting: Verdict | None) -> Point | None:
    """Whether the base's knowledge of general text suffered; told where it did."""
    if not forgetting or forgetting.outcome != "worse":
        return None
    return Point("watch", "What its base knew", forgetting.sentence, forgetting.advice)


def _proof(proof: Mapping[str, Any]) -> Point | None:
    """Whether the saved folder gives the same answers."""
    if "passed" not in proof:
        return None
    if proof["passed"]:
        text = "The saved folder was loaded afresh and gave the same answers as the trained model."
        return Point("good", "The saved model", text)
    text = "The saved folder does not answer as the trained model did. Do not use it."
    return Point("bad", "The saved model", text)


def _data_note(note: Any) -> Point:
    """Something the data layer found."""
    return Point("watch", "The data", _message(note))


def _serious(note: Any) -> bool:
    """Whether a note touches the figures: leakage, conflicts, and the like."""
    kind = str(note.get("kind", "")) if isinstance(note, Mapping) else ""
    return any(word in kind.lower() for word in ("leak", "conflict", "contamin"))


def _message(note: Any) -> str:
    """A note's words, whether it is a record or a sentence."""
    return str(note.get("message", "")) if isinstance(note, Mapping) else str(note)
