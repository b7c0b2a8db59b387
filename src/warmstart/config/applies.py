"""Which recipe keys mean something to a verb that trains nothing: the same on the command line
and in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmstart.config.merge import nested
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError

ROWS = ("columns", "delimiter", "encoding", "limit")  # of data, where rows are only read
SCORES = ("bootstrap", "confidence_level", "calibration_bins")
CUT = (
    "path", "train", "validation", "test", *ROWS, "validation_fraction", "test_fraction",
    "split_seed", "similarity", "group", "corrections", "merge_labels", "max_dropped",
)  # fmt: skip
FILES = ("path", "train", "validation", "test")

APPLIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "inspect": {"base": (), "revision": (), "seed": (), "data": CUT, "task": ()},
    "evaluate": {"seed": (), "data": ROWS, "evaluate": SCORES},
    "predict": {"data": ROWS},
    "index": {"data": ROWS},
}
"""Verb → keys, and of a section the settings that mean something; none named: all of them."""


def settings_of(verb: str, keys: Mapping[str, Any]) -> Recipe:
    """The recipe that keys make. Raises `RecipeError` for one that means nothing to the verb."""
    recipe = Recipe.of(keys)
    applies = APPLIES[verb]
    for head, value in nested(keys).items():
        if head not in applies:
            key = next(key for key in keys if key.partition(".")[0] == head)
            raise RecipeError(
                f"'{key}' does not apply here: nothing is trained; keys of {', '.join(applies)} do"
            )
        means = applies[head]
        if not means or not isinstance(value, Mapping):
            continue
        if strange := [setting for setting in value if setting not in means]:
            do = f"leave it out; it takes {', '.join(f'{head}.{name}' for name in means)}"
            if head == "data" and strange[0] in FILES:
                do = f"name the file without it: warmstart {verb} MODEL DATA"
            raise RecipeError(f"{head}.{strange[0]} has no meaning for {verb}; {do}")
    return recipe
