"""One label for a text."""

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
TEXTS = {
    "good film": "good", "i liked the song and loved it": "good", "a great movie !": "good",
    "bad": "bad", "the service was awful and very late": "bad", "i hated this poor book": "bad",
    "order the red one": "plain", "two blue , three green": "plain", "money": "plain",
}  # fmt: skip
ROWS = [{"text": text, "label": label} for text, label in TEXTS.items()]
OTHER = [{**row, "label": "bad" if row["label"] == "good" else "good"} for row in ROWS]
