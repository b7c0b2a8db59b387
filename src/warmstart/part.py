"""Parts: settings with behaviour, known by the name of their file.

A part is one file in `tasks/`, `objectives/`, `methods/` or `inference/`; the folder is the
registry. `find("method", "lora")` imports `methods/lora.py`, and nothing else, and returns the
class in it. Part files import torch inside their functions, so that naming a part costs nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from warmstart.errors import RecipeError, UnknownNameError, shown

FOLDERS = {
    "task": "tasks",
    "objective": "objectives",
    "method": "methods",
    "engine": "inference",
}

NO_PARTS = {"base", "engine", "inputs", "results"}
"""Files in these folders that hold what the parts share."""


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
        """The word of the vocabulary: the name of the file that the part stands in. A part that
        somebody else wrote is called by its dotted path."""
        words = cls.__module__.split(".")
        if words[0] != __name__.partition(".")[0]:
            return f"{cls.__module__}.{cls.__qualname__}"
        return words[-2] if words[-1] == "task" else words[-1]


def names(kind: str) -> list[str]:
    """All parts of a kind, which is the listing of their folder."""
    folder = Path(__file__).parent / FOLDERS[kind]
    files = (path.stem for path in folder.glob("*.py"))
    packages = (path.parent.name for path in folder.glob("*/task.py"))
    return sorted(name for name in (*files, *packages) if name[0] != "_" and name not in NO_PARTS)


def find(kind: str, name: str) -> type[Part]:
    """The part class called `name`; an unknown name is answered with the nearest.

    An objective may be anybody's: then `name` is the dotted path of its class.
    """
    if kind == "objective" and "." in name:
        return _own(kind, name)
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


def _own(kind: str, path: str) -> type[Part]:
    """The class at `package.module.Class`. Raises `RecipeError`."""
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{kind}: there is no {shown(path)} ({shown(error, 80)}); give the path of a class, as "
            "in my_package.objectives.MyObjective, and make it importable (PYTHONPATH)"
        ) from None
    if not (isinstance(value, type) and issubclass(value, Part) and value.kind == kind):
        raise RecipeError(
            f"{kind}: {shown(path)} is none; derive it from warmstart.objectives.base.Objective"
        )
    return value


def make(kind: str, name: str, settings: dict[str, Any] | None = None) -> Part:
    """The part `name` with `settings`, checked."""
    return find(kind, name).model_validate(settings or {})
