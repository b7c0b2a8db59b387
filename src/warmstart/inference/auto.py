"""The engine that was measured to be the fastest on this machine without being worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmstart import part as parts
from warmstart.errors import RecipeError
from warmstart.files import read_json, write_json
from warmstart.inference.engine import Engine, Runner
from warmstart.inference.forms import fingerprint_of

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Task

CHOICE = "choice.json"


class Auto(Engine):
    """Answers with the engine that `warmstart build RUN --engine auto` has chosen."""

    def build(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None = None
    ) -> Path:
        engine = chosen(folder, out)
        if engine is None:
            raise RecipeError(
                f"no engine has been chosen for the model in {folder}; measure which is the "
                "fastest here: warmstart build RUN --engine auto"
            )
        return engine.build(folder, out.parent / engine.part_name(), task, pad_id, rows)

    def open(self, folder: Path, task: Task, pad_id: int) -> Runner:
        """`folder` is the form of the engine that was chosen, or the model's own."""
        for place in (folder, *folder.parents):
            if (place / "engines" / "auto" / CHOICE).is_file():
                engine = chosen(place, place / "engines" / "auto")
                assert engine is not None
                return engine.open(folder, task, pad_id)
        raise RecipeError(f"no engine has been chosen for the model in {folder}")


def choose(folder: Path, out: Path, name: str, settings: dict[str, Any], reason: str) -> None:
    """Keep which engine was chosen for a model folder, with the reason."""
    out.mkdir(parents=True, exist_ok=True)
    choice = {"engine": name, "settings": settings, "reason": reason}
    write_json(out / CHOICE, {"source": fingerprint_of(folder), **choice})


def chosen(folder: Path, out: Path) -> Any:
    """The engine that was chosen for these weights; None where there is none."""
    try:
        choice = read_json(out / CHOICE)
        if choice["source"] != fingerprint_of(folder) or choice["engine"] not in ENGINES:
            return None
        return parts.make("engine", choice["engine"], choice["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


ENGINES = ("torch", "onnx", "openvino", "openvino_genai", "ctranslate2")
"""Those that may be chosen: a file names no code."""
