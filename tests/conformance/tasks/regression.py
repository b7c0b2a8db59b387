"""How many words of praise a text has."""

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
_TEXTS = [
    "the film", "one good movie again", "good and great", "not this song that was late",
    "good food with great service and a good book", "great good great good",
]  # fmt: skip
ROWS = [
    {"text": text, "score": sum(word in ("good", "great") for word in text.split()) - 2}
    for text in _TEXTS
]
OTHER = [{**row, "score": -1} for row in ROWS]
STEPS = 200
ENOUGH = 0.94
