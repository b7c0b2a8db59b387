"""The recipe: one strict model of what was asked. TOML file = command line = Python call.

Layers of it are plain nested dicts, merged in order (defaults < file < overrides) and checked
once, whole. A part may be given as its name, as a table with a `name`, or as an instance.
"""

from __future__ import annotations

import codecs
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
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from warmstart import part as parts
from warmstart.config import keys
from warmstart.config import merge as layers
from warmstart.config.merge import PARTS, SECTIONS, written
from warmstart.config.validation import NOTHING, Quoted, checked
from warmstart.data.readers.files import unusable
from warmstart.data.settings import Data
from warmstart.errors import RecipeError, nearest, shown
from warmstart.evaluation.settings import Evaluate
from warmstart.part import Part
from warmstart.training.regularization.settings import Keep
from warmstart.training.settings import Train

NAMED: Any = PARTS  # a name stands for a part until it is read


def _reader(kind: str) -> Callable[[Any], Part]:
    def read(value: Any) -> Part:
        if isinstance(value, Part):
            if value.kind != kind:
                raise ValueError(f"{value.part_name()} is a {value.kind}, not a {kind}")
            return value
        table = layers.plain(kind, value)
        name = str(table.pop("name", PARTS[kind]))
        part = parts.find(kind, name)
        return checked(part, table, f"{kind}.", lambda key: _unknown(key, name))

    return read


class Recipe(BaseModel):
    """What was asked, whole. Frozen; unknown keys are refused with the nearest name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True
    )

    base: str = Field(
        default="minilm",
        description="base model: minilm, smollm2, a folder, a GGUF file, or a hub id (owner/name)",
    )
    revision: str | None = Field(default=None, description="commit or branch of a hub id")
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="of the splits, the head, the batches and the dropout",
    )
    out: str | None = Field(
        default=None, description="the run's folder; unset: runs/<data>-<method>"
    )
    task: Annotated[Part, BeforeValidator(_reader("task")), PlainSerializer(written)] = Field(
        default=NAMED["task"],
        description="what is predicted",
    )
    objective: Annotated[Part, BeforeValidator(_reader("objective")), PlainSerializer(written)] = (
        Field(
            default=NAMED["objective"],
            description="why the weights move",
        )
    )
    method: Annotated[Part, BeforeValidator(_reader("method")), PlainSerializer(written)] = Field(
        default=NAMED["method"],
        description="which weights move",
    )
    data: Data = Field(default_factory=Data, description="what is read and how it is split")
    train: Train = Field(default_factory=Train, description="how the weights are moved")
    keep: Keep = Field(default_factory=Keep, description="what the base knew, and how it is kept")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="how the result is judged")

    @field_validator("data")
    @classmethod
    def _can_be_opened(cls, data: Data) -> Data:
        for name in ("path", "train", "validation", "test"):
            path = getattr(data, name)
            if path is not None and (reason := unusable(path)):
                raise ValueError(f"no file '{shown(path, 100)}': {reason}; check the path")
        return data

    @field_validator("out")
    @classmethod
    def _is_a_name(cls, out: str | None) -> str | None:
        if out == "":
            raise ValueError("it is empty; name a folder, or leave it out")
        return out

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        method: Any = self.method
        if self.train.optimizer == "muon" and not method.moves_matrices:
            raise ValueError(
                "train.optimizer muon moves hidden matrices, and method "
                f"{method.part_name()} trains none; take adamw"
            )
        self.keep.check(method)
        task: Any = self.task
        objective: Any = self.objective
        names = {task.objective, objective.part_name()}
        apart = len(names) > 1 and "contrastive" in names  # which goes with its own tasks alone
        if task.head.name not in objective.heads or apart:
            raise ValueError(
                f"objective {objective.part_name()}, as it is set, does not train task "
                f"{task.part_name()}; leave objective.* out, or take {task.objective}"
            )
        return self

    @classmethod
    def of(cls, *given: Mapping[str, Any]) -> Recipe:
        """Merge layers, the last one winning, and check the whole. Raises `RecipeError`.

        Keys may be nested tables or dotted names.
        """
        merged: dict[str, Any] = {}
        for layer in given:
            merged = layers.over(merged, layers.nested(layer))
        for name, section in SECTIONS.items():
            if name in merged and not isinstance(merged[name], section):
                table = layers.plain(name, merged[name])
                merged[name] = checked(section, table, f"{name}.", _unknown)
        if "objective" not in merged and "task" in merged:
            merged["objective"] = _usual_objective(merged["task"])
        return checked(cls, merged, "", _unknown)

    @classmethod
    def from_toml(cls, text: str, *overrides: Mapping[str, Any]) -> Recipe:
        """A recipe from TOML text. Raises `RecipeError`."""
        return cls.of(read_toml(text), *overrides)

    def to_toml(self) -> str:
        """The recipe as TOML; what is unset is left out."""
        return tomlkit.dumps(layers.said(self))

    def commented(self) -> str:
        """The complete recipe with a comment on every key; what is unset is commented out."""
        return "\n".join(_commented(self)) + "\n"


def _usual_objective(task: Any) -> str:
    """The objective of a task that was given without one."""
    if isinstance(task, Part):
        found: Any = task
    else:
        found = parts.find("task", str(layers.plain("task", task).get("name", PARTS["task"])))
    return found.objective


def read_toml(text: str, where: str = "the recipe") -> dict[str, Any]:
    """TOML as nested dicts. Raises `RecipeError` with the line."""
    try:
        return _quoted(tomllib.loads(text.removeprefix("\ufeff")))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not TOML: {error}; texts stand in quotes") from None


def _quoted(table: dict[str, Any]) -> dict[str, Any]:
    """The same with its texts marked as such."""
    found = dict(table)
    for key, value in table.items():
        if isinstance(value, dict):
            found[key] = _quoted(value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, str):
            found[key] = Quoted(value)
    return found


def read_file(path: str | Path) -> dict[str, Any]:
    """A recipe file as nested dicts. Raises `RecipeError`."""
    try:
        raw = Path(path).read_bytes()
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
        said = error.strerror or shown(error, 120)
        raise RecipeError(f"cannot read the recipe {path}: {said}; check the path") from None


def catalogue() -> dict[str, FieldInfo]:
    """Every key by its dotted name; of the parts, the settings of all that there are."""
    return keys.catalogue(Recipe.model_fields)


def _unknown(key: str, part: str = "") -> str:
    return keys.unknown(key, Recipe.model_fields, part)


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
            value = getattr(part, key)
            unset = NOTHING if value is None and info.default is not None else value
            yield from _line(key, unset, info.description)


def _line(key: str, value: Any, description: str | None) -> Iterator[str]:
    yield f"# {description}"
    yield f"# {key} =" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    make: Any = tomlkit
    item = make.inline_table() if isinstance(value, dict) else make.item(value)
    if isinstance(value, dict):
        item.update(value)
    return str(item.as_string())
