"""A recipe as TOML: read, written, and written with a comment on every key."""

from __future__ import annotations

import codecs
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from warmstart import part as parts
from warmstart.config.keys import PARTS
from warmstart.config.validation import NOTHING, Quoted
from warmstart.errors import RecipeError, nearest, shown
from warmstart.part import Part

LARGEST = 10_000_000  # bytes


def read_toml(text: str, where: str = "the recipe") -> dict[str, Any]:
    """TOML as nested dicts, its texts as `Quoted`. Raises `RecipeError` with the line."""
    try:
        return _quoted(tomllib.loads(text.removeprefix("\ufeff")))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not TOML: {error}; texts stand in quotes") from None
    except RecursionError:
        raise RecipeError(f"{where} is no recipe: it is nested too deeply") from None


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        table: dict[str, Any] = value
        return {key: _quoted(inner) for key, inner in table.items()}
    return Quoted(value) if isinstance(value, str) else value


def read_file(path: str | Path) -> dict[str, Any]:
    """A recipe file as nested dicts. Raises `RecipeError`."""
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise RecipeError(f"the recipe {path} is no file but a pipe or a device; give a file")
        with Path(path).open("rb") as file:
            raw = file.read(min(os.path.getsize(path), LARGEST) + 1)
        if len(raw) > LARGEST:
            raise RecipeError(f"the recipe {path} has more than {LARGEST:,} bytes; is it one?")
        wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes
        return read_toml(raw.decode("utf-16" if wide else "utf-8"), str(path))
    except FileNotFoundError:
        beside = [file.name for file in Path(path).parent.glob("*.toml")]
        guess = nearest(Path(path).name, beside) or " `warmstart recipe` prints one to begin with"
        raise RecipeError(f"there is no recipe {path}.{guess}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"cannot read the recipe {path}: save it as UTF-8") from None
    except IsADirectoryError:
        raise RecipeError(f"the recipe {path} is a folder; name the file in it") from None
    except OSError as error:
        reason = error.strerror or shown(error, 120)
        raise RecipeError(f"cannot read the recipe {path}: {reason}; check the path") from None


def toml_table(model: BaseModel) -> dict[str, Any]:
    """What TOML has to say so that the same comes back; keys that are unset are left out."""
    table: dict[str, Any] = {}
    for key, info in type(model).model_fields.items():
        value = getattr(model, key)
        if isinstance(value, Part):
            name = {"name": value.part_name()} if key in PARTS else {}
            table[key] = name | toml_table(value)
        elif value is not None:
            table[key] = value
        elif info.default is not None:
            table[key] = NOTHING
    return table


def commented(recipe: BaseModel) -> Iterator[str]:
    """Lines of the complete recipe with a comment on every key; what is unset is commented out."""
    yield "# The complete recipe of warmstart. Every key is also a flag: --train.epochs 3"
    sections: list[tuple[str, Part, str]] = []
    for name, info in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Part):
            sections.append((name, value, info.description or ""))
        else:
            yield from _line(name, value, info.description)
    for name, section, description in sections:
        yield from ("", f"# {description}", f"[{name}]")
        if name in PARTS:
            yield from _line("name", section.part_name(), f"one of: {', '.join(parts.names(name))}")
        for key, info in type(section).model_fields.items():
            value = getattr(section, key)
            unset = NOTHING if value is None and info.default is not None else value
            yield from _line(key, unset, info.description)


def _line(key: str, value: Any, description: str | None) -> Iterator[str]:
    yield f"# {description}"
    yield f"# {key} =" if value is None else f"{key} = {_written(value)}"


def _written(value: Any) -> str:
    if not isinstance(value, dict):
        return str(tomlkit.item(value).as_string())
    table = tomlkit.inline_table()
    table.update(value)  # pyright: ignore[reportUnknownArgumentType]
    return table.as_string()
