"""One label for a text, by contrast and a regression."""

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
ROWS = [
    {"text": "the good film", "label": "film"},
    {"text": "bad food and poor service", "label": "food"},
    {"text": "a very nice movie that i loved", "label": "film"},
    {"text": "red", "label": "colour"},
    {"text": "hated this food", "label": "food"},
    {"text": "green and blue", "label": "colour"},
]
OTHER = [{**row, "label": "film"} for row in ROWS]
STEPS = 40
