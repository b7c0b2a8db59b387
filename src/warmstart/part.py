"""Parts: settings with behaviour, known by the name of their file.

A part is one file in `tasks/`, `objectives/`, `methods/` or `inference/`; the folder is the
registry. `find("method", "lora")` imports `methods/lora.py`, and nothing else, and returns the
class in it. Part files import torch inside their functions, so that naming a part costs nothing.

A part of the user's own is named by the path of its class, `my_package.engines.Mine`. Code is never
run because a folder names it: a module that is not imported yet must be named by the person who
asks (`allow`), and `own_class` is the one place that imports it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict

from warmstart.errors import RecipeError, UnknownNameError, shown

FOLDERS = {
    "task": "tasks",
    "objective": "objectives",
    "method": "methods",
    "engine": "inference",
}

NO_PARTS = {
    "base", "batching", "decoders", "engine", "exported", "forms", "generation", "host", "hosted",
    "hosted_writer", "language", "pipeline", "predictor", "preferences", "replies", "results",
    "writer",
}  # fmt: skip
"""Files in these folders that hold what the parts share."""


OWN_HEAD = "task.module"
"""The key that names a head of the user's own; verbs that open a saved model take it too."""
_ALLOWED: set[str] = set()
"""Paths of code that a person has named in this process."""


class Part(BaseModel):
    """A frozen set of settings with one ability. Fields are settings; it holds no weights."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )
    kind: ClassVar[str] = ""

    @classmethod
    def part_name(cls) -> str:
        """The word of the vocabulary: the name of the file that the part stands in; of a class of
        the user's own its path."""
        words = cls.__module__.split(".")
        if words[0] != "warmstart":
            return f"{cls.__module__}.{cls.__name__}"
        return words[-2] if words[-1] == "task" else words[-1]


def names(kind: str) -> list[str]:
    """All parts of a kind, which is the listing of their folder."""
    folder = Path(__file__).parent / FOLDERS[kind]
    files = (path.stem for path in folder.glob("*.py"))
    packages = (path.parent.name for path in folder.glob("*/task.py"))
    return sorted(name for name in (*files, *packages) if name[0] != "_" and name not in NO_PARTS)


def find(kind: str, name: str) -> type[Part]:
    """The part class called `name`, or at the path `name` if it has a dot.

    Raises `RecipeError`; an unknown name is answered with the nearest.
    """
    if "." in name:
        return _own_part(kind, name)
    if name not in names(kind):
        raise UnknownNameError(kind, name, names(kind))
    is_package = (Path(__file__).parent / FOLDERS[kind] / name / "task.py").is_file()
    place = f"warmstart.{FOLDERS[kind]}.{name}"
    module = importlib.import_module(f"{place}.task" if is_package else place)
    for value in reversed(vars(module).values()):  # what others derive from stands above
        if isinstance(value, type) and issubclass(value, Part) and value.kind == kind:
            if value.__module__ == module.__name__:
                return value
    raise RecipeError(f"{module.__file__} holds no {kind}")


def allow(path: str) -> None:
    """Let the class at a dotted path be imported in this process: a person has named it."""
    _ALLOWED.add(path.replace(":", "."))


def allow_named(recipe: Mapping[str, Any]) -> None:
    """Allow the code that a recipe names which a person has given: parts and rewards of their own
    by their paths, several with commas or as a list, and a `module`."""
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            allow_named(cast("Mapping[str, Any]", value))
        elif key.rpartition(".")[2] in {*FOLDERS, "name", "module", "reward"}:
            several: Iterable[Any] = value.split(",") if isinstance(value, str) else [value]
            for name in (
                cast("Iterable[Any]", value) if isinstance(value, list | tuple) else several
            ):
                allow(str(name).strip())


def own_class(path: str, key: str, remedy: str) -> Any:
    """What stands at the dotted path of code of the user's own, which a recipe's `key` names.

    The one place that imports such code. A saved folder may name any: only a path that a person
    has named in this process is imported, or one whose module is there already. Raises
    `RecipeError`, with `remedy` where there is no such class.
    """
    path = path.replace(":", ".")
    module, _, name = path.rpartition(".")
    if path not in _ALLOWED and module not in sys.modules:
        raise RecipeError(
            f"a saved file names the {key} {shown(path)}, which is code that nobody here has "
            f"named, so it is not run; if you trust it, say so: --{key} {shown(path)}, or in "
            f"Python, before: import {shown(module)}"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{key}: there is no {shown(path)} ({shown(error, 80)}); {remedy}, and make it "
            "importable (PYTHONPATH)"
        ) from None


def _own_part(kind: str, path: str) -> type[Part]:
    choices = ", ".join(names(kind))
    value = own_class(
        path, kind, f"give one of {choices}, or the path of a class, as in my_package.parts.Mine"
    )
    if not (isinstance(value, type) and issubclass(value, Part) and value.kind == kind):
        base = f"warmstart's {kind.capitalize()}"
        raise RecipeError(f"{kind}: {shown(path)} is no class that derives from {base}")
    return value


def make(kind: str, name: str, settings: dict[str, Any] | None = None) -> Part:
    """The part `name` with `settings`, checked."""
    return find(kind, name).model_validate(settings or {})
