"""A vector for a text, from labelled texts."""

from typing import Any

import numpy as np

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
STEPS = 60


def perfect(task: Any, examples: Any) -> np.ndarray:
    """Texts of one label in one place."""
    return np.eye(3, dtype=np.float32)[examples.store.targets % 3][:, None]
