"""Can the model be trusted? A short list of points, each good, to be watched, or bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warmstart.evaluation.sentences import p_words, points, sentence

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


def trust(facts: Mapping[str, Any]) -> list[Point]:
    """All points that the facts allow, the same ones in the same order each time."""
    metrics = facts.get("metrics") or {}
    found = [
        _comparison(metrics),
        _calibration(metrics.get("calibration")),
        _curves(metrics.get("curves")),
        _forgetting(metrics.get("forgetting")),
        _proof(facts.get("proof")),
    ]
    found += [Point("watch", "Mind", note) for note in metrics.get("notes", [])]
    notes = (facts.get("data") or {}).get("notes", [])
    found += [_data_note(note) for note in notes if _serious(note)]
    return [point for point in found if point]


def _comparison(metrics: Mapping[str, Any]) -> Point | None:
    """Against the best baseline."""
    comparison = metrics.get("comparison")
    if not metrics:
        return None
    if not comparison:
        return Point("info", "Baselines", "None were computed, so the score stands alone.")
    if comparison["outcome"] == "better":
        share = comparison["difference"] * metrics.get("scale", 1.0)
        gap, p = points(share), p_words(comparison["p_value"])
        text = f"It beats the best of them, {comparison['title']}, by {gap} points. "
        return Point("good", AGAINST, f"{text}A gap like this is unlikely to be chance ({p}).")
    level = "bad" if comparison["outcome"] == "worse" else "watch"
    advice = "More test rows would tell."
    if comparison["outcome"] == "worse" or comparison["difference"] <= 0:
        advice = "On these rows the simpler method is the better buy."
    return Point(level, AGAINST, sentence(comparison["sentence"]), advice)


def _calibration(found: Mapping[str, Any] | None) -> Point | None:
    """Whether confidence means what it says."""
    if not found:
        return None
    level = "good" if found["before"]["ece"] < 0.05 else "watch"
    level = "info" if "Too few" in found["sentence"] else level
    return Point(level, "Its confidence", found["sentence"])


def _curves(found: Mapping[str, Any] | None) -> Point | None:
    """How training went."""
    if not found or found["verdict"] == "unknown":
        return None
    level = "good" if found["verdict"] == "good" else "watch"
    return Point(level, "Its training", found["sentence"], found["advice"])


def _forgetting(found: Mapping[str, Any] | None) -> Point | None:
    """Whether the base's knowledge of general text suffered; told where it did."""
    if not found or found["outcome"] != "worse":
        return None
    return Point("watch", "What its base knew", found["sentence"], found["advice"])


def _proof(found: Mapping[str, Any] | None) -> Point | None:
    """Whether the saved folder gives the same answers."""
    if not found or "passed" not in found:
        return None
    if found["passed"]:
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
