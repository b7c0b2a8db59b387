"""A run is gone on with by the recipe that it began with, which `run.json` keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from warmstart.errors import RunError, shown
from warmstart.layers import said
from warmstart.recipe import Recipe
from warmstart.run import Run

FREE = (
    "out", "evaluate.", "data.path", "data.train", "data.validation", "data.test",
    "train.checkpoint_seconds", "train.device", "train.micro_batch_tokens",
    "train.gradient_checkpointing",
)  # fmt: skip
"""Keys that may differ: what is said about the model, where things stand (whether the rows are the
same is checked by themselves), and how a step is computed, which comes to the same step."""
MOST = 3  # keys that a message names


def check_recipe(run: Run, place: Path | None = None) -> None:
    """Raise `RunError` where the run's recipe is not the one that it began with.

    `place` is what is gone on with, where the run is one of a comparison. A run that an older
    version began has no record.
    """
    record = run.facts.get("recipe")
    if record is None:
        return
    before, now = _flat(Recipe.from_toml(record)), _flat(run.recipe)
    changed = [
        key
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _is_free(key)
    ]
    if changed:
        told = [
            f"{key} was {_value(before, key)} when it began and is {_value(now, key)} now"
            for key in changed[:MOST]
        ]
        more = f", and {len(changed) - MOST} more keys have changed" if changed[MOST:] else ""
        raise RunError(
            f"cannot resume {place or run.path}: {', '.join(told)}{more}; put it back in "
            f"{run.path / 'recipe.toml'}, or begin a new run"
        )


def _is_free(key: str) -> bool:
    return any(key == free or (free[-1] == "." and key.startswith(free)) for free in FREE)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted name → value, as JSON gives it back; what is unset is left out."""
    return dict(_leaves(json.loads(json.dumps(said(recipe), default=str))))


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{above}{key}.")
        else:
            yield above + key, value


def _value(flat: Mapping[str, Any], key: str) -> str:
    return shown(flat[key]) if key in flat else "unset"
