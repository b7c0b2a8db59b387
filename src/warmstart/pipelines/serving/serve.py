"""`serve`: runs, model folders, adapters, bases and indexes behind an HTTP server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from warmstart.config.validation import checked
from warmstart.errors import RecipeError, shown
from warmstart.pipelines.search import Index
from warmstart.pipelines.writing.generate import parted
from warmstart.run import Folder, folder_named
from warmstart.serving.auth import new_key
from warmstart.serving.models import Models
from warmstart.serving.server import serve as answer
from warmstart.serving.settings import Serving

__all__ = ["new_key", "serve"]


def serve(
    models: Folder | Sequence[Folder] | Mapping[str, Folder],
    keys: Mapping[str, Any],
    on_start: Callable[[str, Models], None] | None = None,
    *,
    dry_run: bool = False,
) -> None:
    """See `api.serve`."""
    engine, settings = parted(keys)
    serving: Serving = checked(Serving, settings)
    sources = sources_of(models)
    indexes = {name: Index(path) for name, path in sources.items() if is_index(path)}
    rest = {name: path for name, path in sources.items() if name not in indexes}
    answer(rest, serving, engine, indexes, on_start, dry_run=dry_run)


def sources_of(
    models: Folder | Sequence[Folder] | Mapping[str, Folder],
) -> Mapping[str, str]:
    """Name → where it stands. Raises `RecipeError`."""
    if isinstance(models, Mapping):
        return {name: folder_named(path) for name, path in models.items()}
    several = [models] if isinstance(models, str | os.PathLike) else models
    return named_sources([folder_named(path) for path in several])


def named_sources(words: Sequence[str]) -> dict[str, str]:
    """The models that words name: `RUN`, called as its folder, or `NAME=RUN`. Raises
    `RecipeError`."""
    sources: dict[str, str] = {}
    for word in words:
        name, equals, source = word.partition("=")
        if not equals or Path(word).exists():
            path, source = Path(word), word
            name = path.parent.name if path.name == "model" else path.resolve().name
        if not name or not source:
            raise RecipeError(f"{shown(word)} names no model; give RUN, or NAME=RUN")
        if name in sources:
            raise RecipeError(
                f"two models would be called {shown(name)}; name one: {shown(name)}-2={source}"
            )
        sources[name] = source
    if not sources:
        raise RecipeError("serve needs at least one run or model folder")
    return sources


def is_index(path: str) -> bool:
    """Whether a folder is an index of texts."""
    return os.path.isfile(Path(path, "index.json"))
