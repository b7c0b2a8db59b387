"""Any number of labels for a text: those whose word stands in it."""

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
_TEXTS = [
    "the red film", "it was not a song that i hated", "one good movie again", "red and good",
    "good food with good service", "never this late",
]  # fmt: skip
WORDS = ("red", "good")
ROWS = [{"text": text, "labels": [w for w in WORDS if w in text.split()]} for text in _TEXTS]
OTHER = [{**row, "labels": ["red"]} for row in ROWS]
STEPS = 150
