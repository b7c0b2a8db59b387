"""How training went, as the report shows it: curves, or the figures there are and why no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from warmstart.evaluate import charts

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
    return [chart for chart in drawn if chart]
