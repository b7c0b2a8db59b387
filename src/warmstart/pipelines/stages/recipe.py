"""The recipe file of several stages, taken apart and checked as far as it can be by itself.

[[stages]]
name = "read"
verb = "pretrain"
data = "abstracts.csv"

[[stages]]
name = "adapted"
verb = "tune"
data = "intents"
base = "stage:read"
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from warmstart.config.toml import read_file
from warmstart.config.validation import checked
from warmstart.errors import RecipeError, WarmstartError, nearest, shown, typed
from warmstart.run import free_path
from warmstart.tokenization.settings import Extension

EXTEND = "extend"
"""The verb that trains nothing: a tokenizer gets words, and a base a row for each."""
TOP = ("out", "stages")
OWN = ("name", "verb", "data")
NAME = re.compile(r"[A-Za-z0-9][\w-]{0,99}", re.ASCII)
STAGE = "stage:"
SHORT = ("architecture", "size", "tokenizer", "vocabulary_size", "layers", "hidden_size", "heads")
"""Keys of `pretrain` that stand for those of `scratch`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; `settings` are keys of the recipe of its verb."""

    name: str
    verb: str
    data: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def source(self) -> Any:
        """The data where they are no path: what a run that goes on is to be given again."""
        return None if isinstance(self.data, str) else self.data

    def keys(self, places: Mapping[str, str]) -> dict[str, Any]:
        """The settings, with the folder of a stage in the place of its name."""
        return _resolved(self.settings, places)

    @property
    def base(self) -> str:
        """What it begins with, as it is written."""
        made = self.settings.get("architecture") or dict(self.settings.get("scratch") or {})
        return "nothing" if made else str(self.settings.get("base", "minilm"))


def read_stages(
    file: str | Path | None, verbs: Iterable[str], out: str | Path | None = None
) -> tuple[list[Stage], Path]:
    """The stages of a file, and the folder in which they are to stand. Raises `RecipeError`."""
    if file is None:
        raise RecipeError("name a recipe file with [[stages]]: warmstart run FILE.toml")
    table = read_file(file)
    place: Any = out or table.get("out") or free_path(Path(file).stem)
    if not isinstance(place, str | Path):
        raise RecipeError(f"{file}: out = {shown(place)}: give the name of a folder, in quotes")
    return stages_of(table, str(file), verbs), Path(place)


def stages_of(table: Mapping[str, Any], file: str, verbs: Iterable[str]) -> list[Stage]:
    """The stages of a recipe that was read from `file`. Raises `RecipeError`."""
    for key in table:
        if key not in TOP:
            raise RecipeError(
                f"{file}: unknown key '{key}' above the stages.{nearest(key, TOP)} The settings of "
                "a stage stand below its [[stages]]"
            )
    entries: Any = table.get("stages")
    if not isinstance(entries, list) or not entries:
        raise RecipeError(
            f"{file} has no stages: each begins with a line [[stages]], its name and its verb; a "
            f"recipe without stages is for warmstart tune --recipe {typed(file)}"
        )
    stages: list[Stage] = []
    for number, entry in enumerate(cast("list[Any]", entries), 1):
        stages.append(_stage(entry, f"stage {number} of {file}", stages, (EXTEND, *verbs)))
    return stages


def _stage(entry: Any, where: str, before: Sequence[Stage], verbs: Sequence[str]) -> Stage:
    """One stage. Raises `RecipeError`."""
    if not isinstance(entry, Mapping):
        raise RecipeError(f"{where}: it is no table; begin it with a line [[stages]]")
    table = dict(cast("Mapping[str, Any]", entry))
    name, verb, data = (table.pop(key, None) for key in OWN)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RecipeError(
            f"{where}: name = {shown(name)}: give it a name of letters, digits, - and _ (at most "
            "100); its folder is called so"
        )
    where, names = f"stage {name}", [stage.name for stage in before]
    if name in names:
        raise RecipeError(f"{where}: two stages have this name; give each its own")
    if verb not in verbs:
        raise RecipeError(f"{where}: verb = {shown(verb)}: there is no such verb."
                          f"{nearest(str(verb), verbs)}")  # fmt: skip
    if isinstance(data, Mapping):  # data.path, data.columns and so on: the table of the recipe
        table["data"], data = data, None
    if "out" in table:
        raise RecipeError(f"{where}: out: a stage stands in a folder of its name; leave it out")
    for key, value in _references(table):
        if value not in names:
            near = nearest(value, names) if names else " It is the first one"
            raise RecipeError(f"{where}: {key} = {STAGE}{value}: no stage before it is called so."
                              f"{near}")  # fmt: skip
    stage = Stage(name, str(verb), str(data) if isinstance(data, str) else data, table)
    if verb == EXTEND:
        with named(stage):
            checked(Extension, extension_of(stage, table))
    return stage


def extension_of(stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an extension: its data are the corpus in which words are looked for."""
    keys = {key: value for key, value in settings.items() if key != "base"}
    return keys if stage.data is None else {"corpus": stage.data, **keys}


def parted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe, and what is handed over beside it as if it were typed: what may be several, and
    the short names of `pretrain`.

    All else is a recipe that may come out of a folder: code that it names is not run.
    """
    chosen = {key: settings[key] for key in ("seed", *SHORT) if key in settings}
    method: Any = settings.get("method")
    names: Any = method.split(",") if isinstance(method, str) else method
    if isinstance(names, list) and not any("." in str(name) for name in cast("list[Any]", names)):
        chosen |= {"method": method} if len(cast("list[Any]", names)) > 1 else {}
    return {key: value for key, value in settings.items() if key not in chosen}, chosen


def _references(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Each key whose value names a stage, with the stage's name."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _references(cast("Mapping[str, Any]", value), f"{above}{key}.")
        elif isinstance(value, str) and value.startswith(STAGE):
            yield above + key, value.removeprefix(STAGE)


def _resolved(table: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            whole[key] = _resolved(cast("Mapping[str, Any]", value), places)
        elif isinstance(value, str) and value.startswith(STAGE):
            whole[key] = places[value.removeprefix(STAGE)]
        else:
            whole[key] = value
    return whole


@contextlib.contextmanager
def named(stage: Stage, place: Path | None = None) -> Iterator[None]:
    """Errors say in which stage, and that the stages in `place` go on together."""
    try:
        yield
    except WarmstartError as error:
        text = str(error)
        if place is not None:
            alone = rf"warmstart \w+ --resume {re.escape(typed(place / stage.name))}"
            text = re.sub(alone, lambda _: f"warmstart run --resume {typed(place)}", text)
        kind = RecipeError if isinstance(error, RecipeError) else type(error)
        raise kind(f"stage {stage.name}: {text}") from error.__cause__
