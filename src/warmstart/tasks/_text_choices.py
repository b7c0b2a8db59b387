"""What a task that writes leaves open until its base is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warmstart.errors import RecipeError

NEW_TOKENS = 128


def choices(task: Any, config: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Lengths, prefix and separator for a base; see `Task.settled`. Raises `RecipeError`."""
    from warmstart.models.families import positions_of

    kind, decodes = config.get("model_type"), not config.get("is_encoder_decoder")
    positions = positions_of(config)
    longest = min(task.max_length, room, positions)
    if task.separator is not None and not decodes:
        raise RecipeError(
            "task.separator stands between source and answer of a decoder, and "
            f"'{kind}' reads the source with its encoder; leave it out"
        )
    new = task.max_new_tokens or min(NEW_TOKENS, longest // 2 if decodes else positions)
    if decodes and new > longest - 2:
        raise RecipeError(
            f"task.max_new_tokens {new} does not go with the {longest} tokens that source "
            "and answer may have together; lower it, or raise task.max_length"
        )
    if new > positions:
        raise RecipeError(
            f"task.max_new_tokens {new} is more than the {positions} tokens of '{kind}'"
        )
    if task.min_new_tokens > new:
        raise RecipeError(
            f"task.min_new_tokens {task.min_new_tokens} is more than max_new_tokens {new}"
        )
    usual = task.usual_prefix() if kind == "t5" else ""
    return {
        "max_length": longest,
        "max_new_tokens": new,
        "prefix": usual if task.prefix is None else task.prefix,
        "separator": (task.separator or task.usual_separator) if decodes else None,
    }
