"""The layers of a recipe, as nested dicts: taken apart, and laid over each other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from warmstart import part as parts
from warmstart.config.keys import PARTS, SECTIONS, current_name
from warmstart.errors import RecipeError, RenamedKeyWarning, shown
from warmstart.part import Part


def nested(table: Mapping[str, Any], above: str = "", *, quiet: bool = True) -> dict[str, Any]:
    """One layer with its dotted names taken apart: `{"train.epochs": 3}` → `{"train": …}`.

    Within a layer the order does not matter: `method.rank` may stand before `method`. `above` is
    the section that the table stands in, with a dot. Without `quiet` an old spelling of a key is
    answered with a `RenamedKeyWarning`.
    """
    layer: dict[str, Any] = {}
    for key in sorted(table, key=lambda key: key.count(".")):
        section, _, setting = key.partition(".")
        name = current_name(above + section)
        if name != above + section and not quiet:
            warnings.warn(RenamedKeyWarning(above + section, name), stacklevel=3)
        section = name.removeprefix(above)
        value: Any = {setting: table[key]} if setting else table[key]
        if isinstance(value, Mapping):
            value = nested(value, f"{name}.", quiet=quiet)  # pyright: ignore[reportUnknownArgumentType]
        layer[section] = deep(plain(section, layer[section]), value) if section in layer else value
    return layer


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; a part of another name forgets the settings of the lower one."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key not in {**PARTS, **SECTIONS} or isinstance(value, Part) or old is None:
            merged[key] = value
            continue
        old, value = plain(key, old), plain(key, value)
        name = old.get("name", PARTS.get(key))
        same = value.get("name", name) == name
        merged[key] = deep(old, value) if same else value
    return merged


def deep(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        old: Any = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = deep(old, value) if both else value  # pyright: ignore[reportUnknownArgumentType]
    return merged


def plain(key: str, value: Any) -> dict[str, Any]:
    """A part or a section as a table, however it was given. Raises `RecipeError`."""
    if isinstance(value, Part):
        return part_table(value) if key in PARTS else value.model_dump(exclude_unset=True)
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


def part_table(part: Part) -> dict[str, Any]:
    """A part with its name and all of its settings."""
    return {"name": part.part_name(), **part.model_dump(mode="json")}
