"""What the tasks that write share: rows, and the outputs of a model that writes them all."""

from typing import Any

from warmstart.models.generation import GenerationOutput
from warmstart.tasks.base import Examples, Task

SOURCES = (
    "the film was very good", "i hated this poor book , it was awful", "a great song !",
    "the service was late again and the food was bad", "red green blue", "order two nice movie",
)  # fmt: skip
TARGETS = (
    "good film very nice", "bad book very poor", "great song loved it", "late service bad food",
    "one two three red", "nice movie but late",
)  # fmt: skip
ROWS = [
    {"source": source, "target": target} for source, target in zip(SOURCES, TARGETS, strict=True)
]
OTHER = [{**row, "target": "money back"} for row in ROWS]
SETTINGS = {"max_new_tokens": 8, "num_beams": 2}


def perfect(task: Task, examples: Examples) -> Any:
    """Every target, written."""
    answers = examples.store.answers
    assert answers is not None
    found = GenerationOutput.nothing(len(examples))
    for row in range(len(examples)):
        found.ids[row] = [int(token) for token in answers.row(row)]
        found.tokens[row] = len(answers.row(row))
    return found
