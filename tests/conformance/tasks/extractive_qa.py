"""Questions whose answer is the word behind the one that they name."""

import random

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
NAMED = "film movie song book service food".split()
ANSWERS = "great good fine nice bad awful poor".split()
FILLERS = "the a is was not very it this that again money back late early".split()
SETTINGS = {"stride": 8}


def _row(rng: random.Random, size: int) -> dict[str, object]:
    named, other = rng.sample(NAMED, k=2)
    words = [rng.choice(FILLERS) for _ in range(size)]
    place, answer = rng.randrange(size // 2), rng.choice(ANSWERS)
    words[place:place] = [named, answer]
    words += [other, rng.choice(ANSWERS)]
    start = len(" ".join(words[: place + 1])) + 1
    return {
        "question": f"the {named} was",
        "context": " ".join(words),
        "answers": {"text": [answer], "answer_start": [start]},
    }


_chance = random.Random(0)
ROWS = [_row(_chance, size) for size in (6, 9, 4, 12, 70)]
_NONE = {"text": [], "answer_start": []}
ROWS += [{"question": "not the book", "context": "it was very late", "answers": _NONE}]
OTHER = [{**row, "answers": _NONE} for row in ROWS]
STEPS = 100
RATE = 5e-3
