"""The layers of a recipe, as nested dicts: taken apart, laid over each other, and said as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from warmstart import part as parts
from warmstart.config.validation import NOTHING
from warmstart.data.settings import Data
from warmstart.errors import RecipeError, shown
from warmstart.evaluation.settings import Evaluate
from warmstart.part import Part
from warmstart.training.regularization.settings import Keep
from warmstart.training.settings import Train

PARTS = {"task": "classification", "objective": "supervised", "method": "full"}
SECTIONS: dict[str, type[Part]] = {
    "data": Data, "train": Train, "keep": Keep, "evaluate": Evaluate,
}  # fmt: skip


def nested(table: Mapping[str, Any]) -> dict[str, Any]:
    """One layer with its dotted names taken apart: `{"train.epochs": 3}` → `{"train": …}`.

    Within a layer the order does not matter: `method.rank` may stand before `method`.
    """
    found: dict[str, Any] = {}
    for key in sorted(table, key=lambda key: key.count(".")):
        head, _, rest = key.partition(".")
        value: Any = {rest: table[key]} if rest else table[key]
        if isinstance(value, Mapping):
            value = nested(value)  # pyright: ignore[reportUnknownArgumentType]
        found[head] = deep(plain(head, found[head]), value) if head in found else value
    return found


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; a part of another name forgets the settings of the lower one."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if (key not in PARTS and key not in SECTIONS) or isinstance(value, Part) or old is None:
            found[key] = value
            continue
        old, value = plain(key, old), plain(key, value)
        if key in PARTS:
            had = old.get("name", PARTS[key])
            old = old if value.get("name", had) == had else {}
        found[key] = deep(old, value)
    return found


def deep(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one, `above` winning."""
    found = dict(below)
    for key, value in above.items():
        old: Any = found.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        found[key] = deep(old, cast("Mapping[str, Any]", value)) if both else value
    return found


def plain(key: str, value: Any) -> dict[str, Any]:
    """A part or a section as a table, however it was given. Raises `RecipeError`."""
    if isinstance(value, Part):
        return written(value) if key in PARTS else value.model_dump(exclude_unset=True)
    if isinstance(value, str) and key in PARTS:
        return {"name": value}
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType]
    if key in PARTS:
        names = ", ".join(parts.names(key))
        raise RecipeError(f"{key} = {shown(value)}: give the name of a {key}, one of {names}")
    if key in SECTIONS:
        first = next(iter(SECTIONS[key].model_fields))
        raise RecipeError(
            f"{key} = {shown(value)}: {key} is a table of settings; name one of them, "
            f"as in --{key}.{first} VALUE"
        )
    raise RecipeError(f"{key} is a single value and has no settings of its own")


def written(part: Part) -> dict[str, Any]:
    """A part with its name and all of its settings."""
    return {"name": part.part_name(), **part.model_dump(mode="json")}


def said(model: BaseModel) -> dict[str, Any]:
    """What TOML has to say so that the same comes back; keys that are unset are left out."""
    found: dict[str, Any] = {}
    for key, info in type(model).model_fields.items():
        value = getattr(model, key)
        if isinstance(value, Part):
            name = {"name": value.part_name()} if key in PARTS else {}
            found[key] = name | said(value)
        elif value is not None:
            found[key] = value
        elif info.default is not None:
            found[key] = NOTHING
    return found
