"""Entities in given words; which word begins one, and of which type, can be seen from itself."""

import random

from conformance.tasks._families import UNDERSTANDING

FAMILIES = UNDERSTANDING
TAGS = {"film": "B-WORK", "movie": "B-WORK", "song": "B-WORK", "red": "B-HUE", "blue": "B-HUE",
        "one": "I-WORK", "two": "I-WORK"}  # fmt: skip
FILLERS = "the a is was not very it this that again money back late early".split()


def _sentence(rng: random.Random) -> list[str]:
    words = [rng.choice(FILLERS) for _ in range(rng.randint(1, 8))]
    words += [rng.choice(["film", "movie", "song"]), *rng.sample(["one", "two"], k=1)]
    words += [rng.choice(FILLERS), rng.choice(["red", "blue"]), *rng.choices(FILLERS, k=2)]
    return words


_chance = random.Random(0)
_SENTENCES = [_sentence(_chance) for _ in range(8)]
ROWS = [{"tokens": s, "ner_tags": [TAGS.get(w, "O") for w in s]} for s in _SENTENCES]
OTHER = [{**row, "ner_tags": ["B-HUE", *["O"] * (len(row["tokens"]) - 1)]} for row in ROWS]
