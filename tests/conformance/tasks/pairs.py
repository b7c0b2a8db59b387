"""One label for two texts."""

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
_PAIRS = [
    ("the good film", "very bad food"), ("it was awful", "hated this song late again"),
    ("great service", "poor movie"), ("red", "green again and not the"),
    ("one was blue", "the order that was early"), ("green order", "blue"),
]  # fmt: skip
_LABELS = ["other", "same", "other", "same", "same", "same"]
ROWS = [
    {"sentence1": one, "sentence2": two, "label": label}
    for (one, two), label in zip(_PAIRS, _LABELS, strict=True)
]
OTHER = [{**row, "label": "other"} for row in ROWS]
STEPS = 80
