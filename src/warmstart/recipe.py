"""The recipe: one strict model of what was asked. TOML file = command line = Python call.

Layers of it are plain nested dicts, merged in order (defaults < file < overrides) and checked
once, whole. A part may be given as its name, as a table with a `name`, or as an instance.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tomlkit
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from warmstart import parts
from warmstart.data.settings import Data
from warmstart.errors import RecipeError, nearest, shown
from warmstart.evaluate.settings import Evaluate
from warmstart.parts import Part
from warmstart.train.settings import Train

PARTS = {"task": "classification", "objective": "supervised", "method": "full"}
SECTIONS: dict[str, type[Part]] = {"data": Data, "train": Train, "evaluate": Evaluate}


def _reader(kind: str) -> Callable[[Any], Part]:
    def read(value: Any) -> Part:
        if isinstance(value, Part):
            if value.kind != kind:
                raise ValueError(f"{value.part_name()} is a {value.kind}, not a {kind}")
            return value
        table: dict[str, Any] = {"name": value} if isinstance(value, str) else dict(value)
        name = table.pop("name", PARTS[kind])
        return checked(parts.find(kind, str(name)), table, f"{kind}.")

    return read


def _written(part: Part) -> dict[str, Any]:
    return {"name": part.part_name(), **part.model_dump(mode="json")}


class Recipe(BaseModel):
    """What was asked, whole. Frozen; unknown keys are refused with the nearest name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True
    )

    base: str = Field(
        "minilm", description="base model: an embedded name, a folder, or a hub id (owner/name)"
    )
    revision: str | None = Field(None, description="commit or branch of a hub id")
    seed: int = Field(0, ge=0, description="of the splits, the head, the batches and the dropout")
    out: str | None = Field(None, description="the run's folder; unset: runs/<data>-<method>")
    task: Annotated[Part, BeforeValidator(_reader("task")), PlainSerializer(_written)] = Field(
        PARTS["task"],  # pyright: ignore[reportArgumentType]
        description="what is predicted",
    )
    objective: Annotated[Part, BeforeValidator(_reader("objective")), PlainSerializer(_written)] = (
        Field(
            PARTS["objective"],  # pyright: ignore[reportArgumentType]
            description="why the weights move",
        )
    )
    method: Annotated[Part, BeforeValidator(_reader("method")), PlainSerializer(_written)] = Field(
        PARTS["method"],  # pyright: ignore[reportArgumentType]
        description="which weights move",
    )
    data: Data = Field(default_factory=Data, description="what is read and how it is split")
    train: Train = Field(default_factory=Train, description="how the weights are moved")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="how the result is judged")

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.train.optimizer == "muon" and self.method.part_name() == "frozen":
            raise ValueError(
                "train.optimizer muon moves hidden matrices, and method frozen trains none; "
                "take adamw"
            )
        return self

    @classmethod
    def of(cls, *layers: Mapping[str, Any]) -> Recipe:
        """Merge layers, the last one winning, and check the whole. Raises `RecipeError`.

        Keys may be nested tables or dotted names.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            _merge(merged, _nested(layer))
        for name, section in SECTIONS.items():
            if isinstance(merged.get(name), dict):
                merged[name] = checked(section, merged[name], f"{name}.")
        return checked(cls, merged)

    @classmethod
    def from_toml(cls, text: str, *overrides: Mapping[str, Any]) -> Recipe:
        """A recipe from TOML text. Raises `RecipeError`."""
        return cls.of(read_toml(text), *overrides)

    def to_toml(self) -> str:
        """The recipe as TOML; what is unset is left out."""
        return tomlkit.dumps(_without_none(self.model_dump(mode="json")))

    def commented(self) -> str:
        """The complete recipe with a comment on every key; what is unset is commented out."""
        return "\n".join(_commented(self)) + "\n"


def checked(model: type[Any], table: Mapping[str, Any], where: str = "") -> Any:
    """Validate, turning pydantic's report into one clear line. Raises `RecipeError`."""
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        raise RecipeError(_explain(error, model, where)) from None


def read_toml(text: str, where: str = "the recipe") -> dict[str, Any]:
    """TOML as nested dicts. Raises `RecipeError` with the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not TOML: {error}") from None


def read_file(path: str | Path) -> dict[str, Any]:
    """A recipe file as nested dicts. Raises `RecipeError`."""
    try:
        return read_toml(Path(path).read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {shown(error, 120)}") from None


def value_of(text: str) -> Any:
    """A value from the command line: TOML if it is, else a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    first = error.errors()[0]
    key = where + ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = {*model.model_fields} | ({"name"} if where[:-1] in PARTS else set())
        return f"unknown key '{key}'.{nearest(name, known)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} = {shown(first['input'])}: {message[0].lower()}{message[1:]}"


def _nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in layer.items():
        head, _, rest = key.partition(".")
        inner = _nested({rest: value}) if rest else value
        _merge(table, {head: _nested(inner) if isinstance(inner, Mapping) else inner})
    return table


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`; a part of another name forgets the settings of the lower one."""
    for key, value in above.items():
        old = below.get(key)
        if key in PARTS and not isinstance(value, Part):
            value = {"name": value} if isinstance(value, str) else dict(value)
            old = {"name": old} if isinstance(old, str) else old
            if isinstance(old, Part):
                old = _written(old)
            same = old and value.get("name", old["name"]) == old.get("name", PARTS[key])
            below[key] = {**old, **value} if same and old else value
        elif isinstance(value, Mapping) and isinstance(old, dict):
            _merge(old, value)
        else:
            below[key] = dict(value) if isinstance(value, Mapping) else value


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _commented(recipe: Recipe) -> Iterator[str]:
    yield "# The complete recipe of warmstart. Every key is also a flag: --train.epochs 3"
    tables: list[tuple[str, Part, str]] = []
    for name, info in Recipe.model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Part):
            tables.append((name, value, info.description or ""))
        else:
            yield from _line(name, value, info.description)
    for name, part, description in tables:
        yield from ("", f"# {description}", f"[{name}]")
        if name in PARTS:
            choices = ", ".join(parts.names(name))
            yield from _line("name", part.part_name(), f"one of: {choices}")
        for key, info in type(part).model_fields.items():
            yield from _line(key, getattr(part, key), info.description)


def _line(key: str, value: Any, description: str | None) -> Iterator[str]:
    yield f"# {description}"
    yield f"# {key} =" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline.as_string()
    return tomlkit.item(value).as_string()
