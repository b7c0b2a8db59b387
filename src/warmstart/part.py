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

from warmstart.errors import RecipeError, UnknownNameError

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
        """The word of the vocabulary: the name of the file that the part stands in."""
        words = cls.__module__.split(".")
        return words[-2] if words[-1] == "task" else words[-1]


def names(kind: str) -> list[str]:
    """All parts of a kind, which is the listing of their folder."""
    folder = Path(__file__).parent / FOLDERS[kind]
    files = (path.stem for path in folder.glob("*.py"))
    packages = (path.parent.name for path in folder.glob("*/task.py"))
    return sorted(name for name in (*files, *packages) if name[0] != "_" and name not in NO_PARTS)


def find(kind: str, name: str) -> type[Part]:
    """The part class called `name`; an unknown name is answered with the nearest."""
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


def make(kind: str, name: str, settings: dict[str, Any] | None = None) -> Part:
    """The part `name` with `settings`, checked."""
    return find(kind, name).model_validate(settings or {})
