"""Parts: settings with behaviour, known by the name of their file.

A part is one file in `tasks/`, `objectives/`, `methods/` or `inference/`; the folder is the
registry. `find("method", "lora")` imports `methods/lora.py`, and nothing else, and returns the
class in it. Part files import torch inside their functions, so that naming a part costs nothing.

A part of the user's own is named by the path of its class, `my_package.engines.Mine`. Code is never
run because a folder names it: a module that is not imported yet must be named by the person who
asks (`check_saved`).
"""

from __future__ import annotations

import importlib
import sys
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

NO_PARTS = {"base", "engine", "generation", "inputs", "predictor", "results"}
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
        return _imported(kind, name)
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


def check_saved(kind: str, name: str, where: str | Path) -> None:
    """Raise `RecipeError` where a saved file names a part of the user's own that is not imported
    yet: code that nobody here has named."""
    module = name.rpartition(".")[0]
    if module and module not in sys.modules:
        raise RecipeError(
            f"{where} names the {kind} {shown(name)}, which is code of yours; if you want it to be "
            f"run, go on from Python, after: import {shown(module)}"
        )


def _imported(kind: str, path: str) -> type[Part]:
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{kind}: there is no {shown(path)} ({shown(error, 80)}); give one of "
            f"{', '.join(names(kind))}, or the path of a class, as in my_package.parts.Mine, and "
            "make it importable (PYTHONPATH)"
        ) from None
    if not (isinstance(value, type) and issubclass(value, Part) and value.kind == kind):
        base = f"warmstart's {kind.capitalize()}"
        raise RecipeError(f"{kind}: {shown(path)} is no class that derives from {base}")
    return value


def make(kind: str, name: str, settings: dict[str, Any] | None = None) -> Part:
    """The part `name` with `settings`, checked."""
    return find(kind, name).model_validate(settings or {})
