"""The facts of a run as the report wants them: nothing missing, charts drawn, lists cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from warmstart.evaluation import sentences as words
from warmstart.reporting import charts
from warmstart.reporting.glossary import terms
from warmstart.reporting.trust import Point, trust

# How training went, as the report shows it: curves, or the figures there are and why no more.

FIGURES = {
    "train_loss": "Training loss",
    "validation_loss": "Validation loss",
    "validation_score": "Validation score",
}
UNSEEN = (
    "There were no validation rows, so only the loss on the training rows was followed; whether "
    "the model went on improving on new rows cannot be seen."
)
SINGLE = "The model was looked at only once during training, so there is no curve to draw."


def training(
    history: Sequence[Mapping[str, Any]], watched: str, curves: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """{"lead", "charts", "figures"}, or None without a history.

    Args:
        history: one row an epoch.
        watched: what the score of an epoch is called.
        curves: what `curves.read_curves` said of it.
    """
    scored = [row for row in history if row.get("validation_score") is not None]
    rows = scored or list(history)
    if not rows:
        return None
    lead = f"{curves['sentence']} {curves['advice']}" if curves else ""
    if not scored:
        lead = UNSEEN
    elif len(rows) == 1:
        lead = lead or SINGLE
    if len(rows) == 1:
        return {"lead": lead, "charts": [], "figures": _figures(rows[0], watched)}
    return {"lead": lead, "charts": _charts(rows, watched), "figures": []}


def _figures(row: Mapping[str, Any], watched: str) -> list[tuple[str, float]]:
    """What is known of a single epoch."""
    titles = FIGURES | {"validation_score": f"{watched} on validation"}
    for name in _metrics([row]):
        titles |= {
            f"train_{name}": f"{name} on train",
            f"validation_{name}": f"{name} on validation",
        }
    return [(title, row[key]) for key, title in titles.items() if row.get(key) is not None]


def _charts(rows: Sequence[Mapping[str, Any]], watched: str) -> list[Markup]:
    """Loss and score over the epochs; a figure that was never measured has no line."""
    x = [float(row.get("epoch") or number + 1) for number, row in enumerate(rows)]

    def columns(**names: str) -> dict[str, list[float | None]]:
        return {name: [row.get(key) for row in rows] for name, key in names.items()}

    loss = columns(training="train_loss", validation="validation_loss")
    score = columns(training="train_score", validation="validation_score")
    drawn = [
        charts.line_chart("Loss (lower is better)", x, loss, "epoch"),
        charts.line_chart(f"{watched} (higher is better)", x, score, "epoch"),
    ]
    for name in _metrics(rows):
        own = columns(training=f"train_{name}", validation=f"validation_{name}")
        drawn.append(charts.line_chart(name, x, own, "epoch"))
    return [chart for chart in drawn if chart]


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the objective measured beside its loss."""
    names = dict.fromkeys(key.partition("_")[2] for row in rows for key in row
                          if key.startswith(("train_", "validation_")))  # fmt: skip
    return [name for name in names if name not in ("loss", "score")]


NUMBERED = 12  # up to so many classes the confusion matrix is a table of numbers
CONFUSIONS = 10  # pairs of classes listed
FIRST, MORE = 3, 6  # mistakes on the first screen; the most, where there is room
BRIEF = 280  # characters of a text shown before it is folded
COLUMN = 55  # characters of a line in half of the page
HEAD, SCORE_LINES, NEXT_LINES = 3, 28, 13  # lines: of a heading, of the score, of "What next?"
SECTIONS = (
    ("Base model", "base"),
    ("Training run", "speed"),
    ("Proof of the saved folder", "proof"),
    ("Versions", "versions"),
)


def view(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Every name that the template uses; what the facts lack is empty."""
    metrics = facts.get("metrics") or {}
    errors = list(facts.get("errors") or [])
    data = facts.get("data") or {}
    points = trust(facts)
    first, next_left = first_screen(points, errors)
    return {
        "title": facts.get("title") or "Model report",
        "created": facts.get("created") or "",
        "verdict": facts.get("verdict") or metrics.get("verdict") or "",
        "run": facts.get("run") or {},
        "recipe": facts.get("recipe_toml") or "",
        "m": metrics,
        "main": _main(metrics),
        "scores": _scores(metrics),
        "sections": metrics.get("sections", []),
        "contenders": _contenders(metrics),
        "points": points,
        "errors": errors,
        "wrong": _wrong(metrics),
        "first_errors": first,
        "next_left": next_left,
        "classes": sorted(classes(metrics), key=lambda one: (not one["judged"], one["f1"])),
        "confusions": confusions(metrics),
        "matrix": _matrix(metrics),
        "training": training(facts.get("history") or [], _watched(metrics), metrics.get("curves")),
        "reliability": _reliability(metrics),
        "data": data,
        "dropped": _dropped(data),
        "tokens": data.get("tokens") or {},
        "notes": _messages(data.get("notes") or []),
        "next": [tuple(step) for step in facts.get("next") or []],
        "terms": terms(_titles(metrics)),
        "counts_words": any("TF-IDF" in one["title"] for one in metrics.get("baselines", [])),
        "details": [(name, _flat(facts[key])) for name, key in SECTIONS if facts.get(key)],
    }


def first_screen(
    points: Sequence[Point], errors: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """The mistakes shown beside the points of trust, and whether "What next?" stands below them.

    Both columns become about as tall: lines are reckoned, so that no large gap is left.
    """
    heights = [HEAD + _lines(str(one["text"])[:BRIEF]) for one in errors[:MORE]]
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


def classes(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of each class; `judged`: whether there are test rows of it."""
    return [{**one, "judged": bool(one["support"])} for one in metrics.get("per_class", [])]


def confusions(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The commonest confusions: {"label", "taken_for", "rows", "share"} of the label's rows."""
    matrix, labels = metrics.get("confusion_matrix", []), metrics.get("labels", [])
    found = [
        {"label": labels[i], "taken_for": labels[j], "rows": n, "share": n / max(1, sum(row))}
        for i, row in enumerate(matrix)
        for j, n in enumerate(row)
        if n and i != j
    ]
    return sorted(found, key=lambda one: (-one["rows"], -one["share"]))[:CONFUSIONS]


def _main(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The main score: its name, what it is called, value and interval."""
    if not metrics:
        return None
    name = metrics["main"]
    return {"name": name, "title": metrics["titles"].get(name, name), **metrics[name]}


def _scores(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The other scores beside the main one."""
    shown = _titles(metrics).items()
    return [(words.title(title), metrics[key]) for key, title in shown if key != metrics["main"]]


def _titles(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are shown and what they are called."""
    return {key: title for key, title in metrics.get("titles", {}).items() if key in metrics}


def _contenders(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """This model and the baselines, best first."""
    if not metrics:
        return []
    name, scale = metrics["main"], metrics.get("scale", 1.0)
    rivals = [
        {"title": words.sentence(one["title"])[:-1], "main": False, **one[name]}
        for one in metrics.get("baselines", [])
    ]
    found = [{"title": "This model", "main": True, **metrics[name]}, *rivals]
    for one in found:
        one["drawn"] = {key: scale * one[key] for key in ("value", "low", "high")}
    return sorted(found, key=lambda one: -one["value"])


def _wrong(metrics: Mapping[str, Any]) -> int:
    """How many test rows were wrong."""
    if "wrong" in metrics:
        return metrics["wrong"]
    matrix = metrics.get("confusion_matrix", [])
    return sum(map(sum, matrix)) - sum(row[i] for i, row in enumerate(matrix))


def _matrix(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The confusion matrix as rows of (count, share) cells, or drawn where classes are many."""
    matrix, labels = metrics.get("confusion_matrix"), metrics.get("labels", [])
    if not matrix:
        return None
    if len(labels) > NUMBERED:
        return {"drawn": charts.heat_map(matrix, labels), "beside": False}
    rows = [
        (label, [(n, n / max(1, sum(row)), i == j) for j, n in enumerate(row)])
        for i, (label, row) in enumerate(zip(labels, matrix, strict=True))
    ]
    wide = max(map(len, labels)) + sum(max(len(label), 4) + 2 for label in labels)
    return {"drawn": None, "labels": labels, "rows": rows, "beside": wide <= COLUMN}


def _watched(metrics: Mapping[str, Any]) -> str:
    """What the score of an epoch is called: the main one, unless the task went by another."""
    return metrics.get("epoch_score") or _called(_main(metrics))


def _called(main: Mapping[str, Any] | None) -> str:
    return words.title(main["title"]) if main else "Score"


def _reliability(metrics: Mapping[str, Any]) -> Markup | None:
    """The reliability diagram."""
    found = metrics.get("calibration")
    if not found:
        return None
    after = found["after"]["bins"] if found["fitted"] else []
    return charts.reliability_chart(found["before"]["bins"], after)


def _dropped(data: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Reasons for which rows were dropped: (reason, rows, first place)."""
    return [
        (reason, one["rows"], one.get("first", ""))
        if isinstance(one, Mapping)
        else (reason, int(one), "")
        for reason, one in (data.get("dropped") or {}).items()
    ]


def _messages(notes: Iterable[Any]) -> list[str]:
    """Notes of the data layer as sentences."""
    return [str(note["message"]) if isinstance(note, Mapping) else str(note) for note in notes]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested dict as (name, value) pairs, names in words."""
    found: list[tuple[str, Any]] = []
    for key, value in facts.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{name}: ")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value):
                found += _flat(one, f"{name} {number + 1}: ")
        else:
            found.append((name, value))
    return found
