"""Settings checked against their model: one clear line for whatever does not fit.

A value may come from TOML, from Python, or as a word of the command line, which stays text until
the field that it is for says what it is: a column named 1 stays "1", a number becomes one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from warmstart.errors import RecipeError, nearest, shown

NOTHING = "none"
"""The word for no value, where that is not what an absent key means."""
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class Quoted(str):
    """Text of a TOML file, which says by its quotes that it is text and no number."""

    __slots__ = ()


def checked(
    model: type[Any],
    table: Mapping[str, Any],
    where: str = "",
    unknown: Callable[[str], str] | None = None,
) -> Any:
    """`table` as a `model`. Raises `RecipeError`; `unknown` words it for a key that is not one."""
    fields = model.model_fields
    for key in table:
        if key not in fields:
            line = f"unknown key '{where}{key}'.{nearest(key, fields)}"
            raise RecipeError(unknown(f"{where}{key}") if unknown else line)
    values = {key: _to_field(value, fields[key], where + key) for key, value in table.items()}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_describe(error, model, where)) from None


def kinds(info: FieldInfo) -> set[Any]:
    """What a field may hold, without None: types, `Literal` for a choice of words."""
    return {get_origin(kind) or kind for kind in _members(info.annotation)} - {NoneType}


def wanted(info: FieldInfo) -> str:
    """What a field may hold, in words: `a whole number of at least 1`."""
    table = (info.examples or ["{text = 'body'}"])[0]
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    words = [
        "one of " + ", ".join(map(str, get_args(kind)))
        if get_origin(kind) is Literal
        else names.get(kind, f"a table, as in {table}")
        for kind in _members(info.annotation)
        if kind is not NoneType
    ]
    limits = [
        (name, limit)
        for bounds in info.metadata
        for key, name in BOUNDS.items()
        if (limit := getattr(bounds, key, None)) is not None
    ]
    bounds = " and ".join(
        f"{name} {limit:,}" if isinstance(limit, int) else f"{name} {limit:g}"
        for name, limit in limits
    )
    none = ", or none" if _may_be_nothing(info) else ""
    return " or ".join(words) + (f", {bounds}" if bounds else "") + none


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _members(part)]
    return [annotation]


def _choices(info: FieldInfo) -> list[str]:
    """The words that a field may hold, where it is a choice of words."""
    members = _members(info.annotation)
    return [str(word) for kind in members if get_origin(kind) is Literal for word in get_args(kind)]


def _may_be_nothing(info: FieldInfo) -> bool:
    return NoneType in _members(info.annotation) and str not in kinds(info)


def _to_field(value: Any, info: FieldInfo, key: str) -> Any:
    """The value as pydantic should see it. Raises `RecipeError`."""
    accepted = kinds(info)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    words = _choices(info) + ([NOTHING] if _may_be_nothing(info) else [])
    number = accepted & {int, float, bool} and str not in accepted  # or true or false
    if isinstance(value, Quoted) and number and value.strip().lower() not in words:
        raise RecipeError(f'{key} = "{shown(value)}": give {wanted(info)}, without quotes')
    if dict in accepted or not isinstance(value, dict):
        value = _unquoted(value)
    if isinstance(value, str):
        if _may_be_nothing(info) and value.strip().lower() == NOTHING:
            return None
        value = _read(value, accepted)
    plain = accepted <= {int, float, bool, str, Literal}
    if plain and isinstance(value, bool) and bool not in accepted:
        raise RecipeError(f"{key} = {str(value).lower()}: give {wanted(info)}")
    return value


def _unquoted(value: Any) -> Any:
    """The same with plain text in the place of `Quoted`."""
    if isinstance(value, dict):
        table: dict[Any, Any] = value
        return {key: _unquoted(inner) for key, inner in table.items()}
    return str(value) if isinstance(value, Quoted) else value


def _read(text: str, accepted: set[Any]) -> Any:
    """A word for a table or list as TOML; a quoted word for text without its quotes."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if accepted & {dict, list, tuple} or (quoted and str in accepted):
        try:
            return tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _describe(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first fault in one line."""
    fault = error.errors()[0]
    place = [str(part) for part in fault["loc"]]
    key = where + ".".join(place)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{key.rstrip('.')}: {message}" if key else message
    if len(place) != 1:
        return f"{key} = {shown(fault['input'])}: {message[0].lower()}{message[1:]}"
    info = model.model_fields[place[0]]
    choices = _choices(info)
    near = nearest(str(fault["input"]), choices) if choices else ""
    guess = "." + near.partition(" There are")[0] if "Did you" in near else ""
    value = shown(fault["input"]) or '""'
    return f"{key} = {value}: give {wanted(info)}{guess}"
