"""The report of a run as its page wants it: nothing missing, charts drawn, lists cut."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from warmstart.evaluation import sentences as words
from warmstart.reporting import charts
from warmstart.types import Metrics, RunReport, Verdict

UNSEEN = (
    "There were no validation rows, so only the loss on the training rows was followed; whether "
    "the model went on improving on new rows cannot be seen."
)
SINGLE = "The model was looked at only once during training, so there is no curve to draw."
GLOSSARY = Path(__file__).parent / "glossary.toml"
NUMBERED = 12  # up to so many classes the confusion matrix is a table of numbers
CONFUSIONS = 10  # pairs of classes listed
FIRST, MORE = 3, 6  # mistakes on the first screen; the most, where there is room
BRIEF = 280  # characters of a text shown before it is folded
COLUMN = 55  # characters of a line in half of the page
MINUS = "Minus the loss"
"""How an epoch's score begins that is the loss again, which is shown anyway."""
HEAD, SCORE_LINES, NEXT_LINES = 3, 28, 13  # lines: of a heading, of the score, of "What next?"


def view(report: RunReport) -> dict[str, Any]:
    """What the template shows beside the report itself and its metrics."""
    metrics = report.metrics
    points = trust(report)
    first, next_left = first_screen(points, report.mistakes)
    watched = words.title(metrics.main_title) if metrics else "Score"
    classes = metrics.per_class if metrics else ()
    matrix = (metrics and metrics.confusion_matrix) or []
    labels = ((metrics and metrics.labels) or []) if matrix else []
    wide = max(map(len, labels), default=0) + sum(max(len(label), 4) + 2 for label in labels)
    wrong = sum(n for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j)
    return {
        "r": report,
        "m": metrics,
        "charts": charts,
        "contenders": _contenders(metrics) if metrics else [],
        "points": points,
        "wrong": wrong if metrics is None or metrics.wrong is None else metrics.wrong,
        "first_errors": first,
        "next_left": next_left,
        "classes": sorted(classes, key=lambda row: (not row.support, row.f1)),
        "confusions": confusions(metrics),
        "heat_map": charts.heat_map(matrix, labels) if len(labels) > NUMBERED else None,
        "beside": len(labels) <= NUMBERED and wide <= COLUMN,
        "training": training(
            report.history, (metrics and metrics.epoch_score) or watched, metrics and metrics.curves
        ),
        "terms": terms(metrics.shown if metrics else {}),
        "counts_words": metrics and any("TF-IDF" in row.title for row in metrics.baselines),
        "details": [(name, _flat(facts)) for name, facts in (
            ("Base model", report.base), ("Training run", report.speed),
            ("Proof of the saved folder", report.proof), ("Versions", report.versions),
        ) if facts],
    }  # fmt: skip


def training(
    history: Sequence[Mapping[str, Any]], watched: str, curves: Verdict | None
) -> dict[str, Any] | None:
    """How training went: {"lead", "charts", "figures"}, curves or the figures there are and why no
    more; None without a history.

    Args:
        history: one row an epoch.
        watched: what the score of an epoch is called.
        curves: what `read_curves` makes of it.
    """
    scored = [row for row in history if row.get("validation_score") is not None]
    rows = scored or list(history)
    if not rows:
        return None
    lead = f"{curves.sentence} {curves.advice}" if curves else ""
    lead = UNSEEN if not scored else lead or SINGLE if len(rows) == 1 else lead
    names = dict.fromkeys(key.partition("_")[2] for row in rows for key in row
                          if key.startswith(("train_", "validation_")))  # fmt: skip
    own = [name for name in names if name not in ("loss", "score")]  # of the objective
    scores_loss = watched.startswith(MINUS)
    if len(rows) == 1:
        titles = {"train_loss": "Training loss", "validation_loss": "Validation loss"}
        if not scores_loss:
            titles["validation_score"] = f"{watched} on validation"
        for name in own:
            plain = name.replace("_", " ")
            titles |= {f"{on}_{name}": f"{plain} on {on}" for on in ("train", "validation")}
        row = rows[0]
        figures = [(title, row[key]) for key, title in titles.items() if row.get(key) is not None]
        return {"lead": lead, "charts": [], "figures": figures}
    x = [float(row.get("epoch") or number + 1) for number, row in enumerate(rows)]
    loss = "Loss (lower is better)"
    if "reward" in own:
        loss = "Policy loss (near 0 whatever is learned: look at the reward)"
    titles = {"reward": "Mean reward (higher is better)"} if "reward" in own else {}
    titles |= {"loss": loss, "score": f"{watched} (higher is better)"}
    if scores_loss:
        del titles["score"]
    drawn = [
        charts.line_chart(
            title,
            x,
            {
                "training": [row.get(f"train_{name}") for row in rows],
                "validation": [row.get(f"validation_{name}") for row in rows],
            },
            "epoch",
        )
        for name, title in (
            titles | {n: n.replace("_", " ") for n in own if n not in titles}
        ).items()
    ]
    return {"lead": lead, "charts": [chart for chart in drawn if chart], "figures": []}


@dataclass(frozen=True, slots=True)
class Term:
    """A word and what it means; `names` are the titles of such figures, * for any end."""

    title: str
    text: str
    names: Sequence[str]
    anchor: str = ""


TERMS = tuple(
    Term(**entry) for entry in tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))["term"]
)


def terms(titles: Mapping[str, str]) -> list[Term]:
    """What explains the figures that have these titles."""
    return [
        term
        for term in TERMS
        if any(fnmatchcase(title, name) for name in term.names for title in titles.values())
    ]


def first_screen(
    points: Sequence[Point], errors: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """The mistakes shown beside the points of trust, and whether "What next?" stands below them.

    Both columns become about as tall: lines are reckoned, so that no large gap is left.
    """
    heights = [HEAD + _lines(str(row["text"])[:BRIEF]) for row in errors[:MORE]]
    left = SCORE_LINES + sum(heights[:FIRST])
    right = HEAD + sum(2 + _lines(f"{point.text} {point.advice}") for point in points)
    next_left = left + NEXT_LINES <= right
    left, right = (left + NEXT_LINES, right) if next_left else (left, right + NEXT_LINES)
    shown = FIRST
    for height in heights[FIRST:]:
        left += height
        shown += left <= right
    return errors[:shown], next_left


def _lines(text: str) -> int:
    """About how many lines a text fills in half of the page."""
    return -(-len(text) // COLUMN)


def confusions(metrics: Metrics | None) -> list[dict[str, Any]]:
    """The commonest confusions: {"label", "taken_for", "rows", "share"} of the label's rows."""
    matrix = (metrics and metrics.confusion_matrix) or []
    labels = (metrics and metrics.labels) or []
    pairs = [
        {"label": labels[i], "taken_for": labels[j], "rows": n, "share": n / max(1, sum(row))}
        for i, row in enumerate(matrix)
        for j, n in enumerate(row)
        if n and i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair["rows"], -pair["share"]))[:CONFUSIONS]


def _contenders(metrics: Metrics) -> list[dict[str, Any]]:
    """This model and the baselines, best first."""
    contenders = [("This model", metrics.main_score)]
    contenders += [
        (words.sentence(row.title)[:-1], row.scores[metrics.main]) for row in metrics.baselines
    ]
    table = [
        {"title": title, "main": place == 0, "score": score, "drawn": score.times(metrics.scale)}
        for place, (title, score) in enumerate(contenders)
    ]
    return sorted(table, key=lambda row: -row["score"].value)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested dict as (name, value) pairs, names in words."""
    pairs: list[tuple[str, Any]] = []
    for key, value in facts.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name}: ")
        elif isinstance(value, list) and value and all(isinstance(e, Mapping) for e in value):
            for number, entry in enumerate(value):
                pairs += _flat(entry, f"{name} {number + 1}: ")
        else:
            pairs.append((name, value))
    return pairs


# Can the model be trusted? A short list of points, each good, to be watched, or bad.

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
            level = "watch" if confidence.alarm else "good"
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
    for note in notes:
        kind, message = str(note.get("kind", "")).lower(), str(note.get("message", ""))
        if any(word in kind for word in SERIOUS) or note.get("loud"):
            listed.append(Point("watch", "The data", message))
        elif kind == "columns":
            listed.append(Point("info", "What was read", message))
    return listed


def _comparison(metrics: Metrics) -> Point:
    """Against the best baseline."""
    comparison = metrics.comparison
    if not comparison:
        return Point("info", "Baselines", "None were computed, so the score stands alone.")
    if comparison.outcome == "better":
        gap = f"{words.points(comparison.difference * metrics.scale)} points"
        if unit := metrics.more.get("unit"):
            gap = f"{abs(comparison.difference):.3f} {unit}"
        p = words.p_words(comparison.p_value)
        text = f"It beats the best of them, {comparison.title}, by {gap}. "
        return Point("good", AGAINST, f"{text}A gap like this is unlikely to be chance ({p}).")
    level = "bad" if comparison.outcome == "worse" else "watch"
    advice = "More test rows would tell."
    if comparison.outcome == "worse" or comparison.difference <= 0:
        advice = "On these rows the simpler method is the better buy."
    return Point(level, AGAINST, words.sentence(comparison.sentence), advice)
