"""The keys of a recipe: which there are, which a verb takes, what to say about any other; and its
layers as nested dicts, taken apart and laid over each other."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from warmstart import part as parts
from warmstart.data.settings import Data
from warmstart.errors import RecipeError, RenamedKeyWarning, nearest, shown
from warmstart.evaluation.settings import Evaluate
from warmstart.part import Part
from warmstart.training.settings import Forgetting, Scratch, Train

Fields = Mapping[str, FieldInfo]

PARTS = {"task": "classification", "objective": "supervised", "method": "full", "engine": "torch"}
"""Kind → the part that is taken where none is named. An engine stands in no recipe: verbs that ask
a saved model take one."""
SECTIONS: dict[str, type[Part]] = {
    "scratch": Scratch, "data": Data, "train": Train, "forgetting": Forgetting,
    "evaluate": Evaluate,
}  # fmt: skip

RENAMED: Mapping[str, str] = {"keep": "forgetting"}
"""Old → new dotted name of a section or key, which stays in the section that it is in. The old one
is understood for one version, with a note: in TOML, on the command line, in Python."""

MEANT = {
    "lr": "train.learning_rate",
    "model": "base",
    "output": "out",
    "output_dir": "out",
    "text": "data.columns.text",
    "label": "data.columns.label",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "batch": "train.batch_size",
    "max_len": "task.max_length",
    "fp16": "train.precision",
    "bf16": "train.precision",
}
"""What other tools call it, and what it is here."""

ROWS = ("columns", "delimiter", "encoding", "header", "quoting", "bad_rows", "limit")
"""Of data, where rows are only read."""
SCORES = ("bootstrap", "confidence_level", "calibration_bins")
FILES = ("path", "train", "validation", "test")
SPLITS = (
    *FILES, *ROWS, "validation_fraction", "test_fraction", "split_seed", "similarity",
    "near_copies", "group", "corrections", "merge_labels", "max_dropped",
)  # fmt: skip
APPLIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "inspect": {"base": (), "revision": (), "seed": (), "data": SPLITS, "task": ()},
    "evaluate": {
        "seed": (),
        "data": (*ROWS, "merge_labels", "group", "similarity"),
        "task": (),
        "evaluate": SCORES,
        "engine": (),
    },
    "build": {"data": (*ROWS, "merge_labels", "group"), "engine": ()},
    "predict": {"data": ROWS, "engine": ()},
    "index": {"data": ROWS, "engine": ()},
}
"""Verb that trains nothing → keys that mean something to it, and of a section its settings; none
named: all of them."""


def current_name(key: str) -> str:
    """A dotted name in its present spelling."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def check_applies(verb: str, layer: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for a key that means nothing to the verb; `typed` has it as it was
    written, `layer` as a nested table."""
    applies = APPLIES[verb]
    for section, value in layer.items():
        if section not in applies:
            key = next(key for key in typed if current_name(key).partition(".")[0] == section)
            raise RecipeError(
                f"'{key}' does not apply here: nothing is trained; keys of {', '.join(applies)} do"
            )
        meant = applies[section]
        if not meant or not isinstance(value, Mapping):
            continue
        if strange := [setting for setting in value if setting not in meant]:
            remedy = f"leave it out; it takes {', '.join(f'{section}.{name}' for name in meant)}"
            if section == "data" and strange[0] in FILES:
                remedy = f"name the file without it: warmstart {verb} MODEL DATA"
            raise RecipeError(f"{section}.{strange[0]} has no meaning for {verb}; {remedy}")


def catalogue(top: Fields) -> dict[str, FieldInfo]:
    """Every key by its dotted name; of the parts, the settings of all that there are."""
    known: dict[str, FieldInfo] = {}
    for name, info in top.items():
        known[name] = info
        models = [parts.find(name, part) for part in parts.names(name)] if name in PARTS else []
        for model in models or ([SECTIONS[name]] if name in SECTIONS else []):
            known |= {f"{name}.{key}": setting for key, setting in model.model_fields.items()}
    return known


def describe_unknown(key: str, top: Fields, part: str = "") -> str:
    """One line about a key that does not exist; `part` is the part whose setting it should be."""
    section, _, setting = key.partition(".")
    if section in PARTS and setting:
        return _describe_unknown_setting(section, part or PARTS[section], setting)
    fields = SECTIONS[section].model_fields if section in SECTIONS and setting else {}
    if near := difflib.get_close_matches(setting, fields, n=1):
        return f"unknown key '{key}'. Did you mean '{section}.{near[0]}'?"
    known = catalogue(top)
    last = key.rpartition(".")[2].lower()
    guess = MEANT.get(last) or next((k for k in known if k.rpartition(".")[2] == last), None)
    if not fields:
        guess = guess or next(iter(difflib.get_close_matches(key, known, n=1)), None)
    if guess:
        return f"unknown key '{key}'. Did you mean '{guess}'?"
    listing = ", ".join(f"{section}.{name}" for name in fields) or ", ".join(top)
    return f"unknown key '{key}'. There are: {listing}; `warmstart recipe` explains them"


def _describe_unknown_setting(kind: str, name: str, setting: str) -> str:
    fields = {other: parts.find(kind, other).model_fields for other in parts.names(kind)}
    if owners := [other for other, own in fields.items() if setting in own]:
        verb = "has" if len(owners) == 1 else "have"
        return (
            f"{kind} {name} has no setting '{setting}', {kind} {' and '.join(owners)} {verb}: "
            f"add --{kind} {owners[0]}, or leave {kind}.{setting} out"
        )
    there = nearest(setting, parts.find(kind, name).model_fields) or " It has none."
    return f"{kind} {name} has no setting '{setting}'.{there}"


def nested(table: Mapping[str, Any], above: str = "", *, quiet: bool = True) -> dict[str, Any]:
    """One layer with its dotted names taken apart: `{"train.epochs": 3}` → `{"train": …}`.

    Within a layer the order does not matter: `method.rank` may stand before `method`. `above` is
    the section that the table stands in, with a dot. Without `quiet` an old spelling of a key is
    answered with a `RenamedKeyWarning`.
    """
    layer: dict[str, Any] = {}
    for key in sorted(table, key=lambda key: key.count(".")):
        section, _, setting = key.partition(".")
        name = current_name(above + section)
        if name != above + section and not quiet:
            warnings.warn(RenamedKeyWarning(above + section, name), stacklevel=3)
        section = name.removeprefix(above)
        value: Any = {setting: table[key]} if setting else table[key]
        if isinstance(value, Mapping):
            value = nested(value, f"{name}.", quiet=quiet)  # pyright: ignore[reportUnknownArgumentType]
        layer[section] = deep(plain(section, layer[section]), value) if section in layer else value
    return layer


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`; a part of another name forgets the settings of the lower one."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key not in {**PARTS, **SECTIONS} or isinstance(value, Part) or old is None:
            merged[key] = value
            continue
        old, value = plain(key, old), plain(key, value)
        name = old.get("name", PARTS.get(key))
        same = value.get("name", name) == name
        merged[key] = deep(old, value) if same else value
    return merged


def deep(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts as one, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        old: Any = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = deep(old, value) if both else value  # pyright: ignore[reportUnknownArgumentType]
    return merged


def plain(key: str, value: Any) -> dict[str, Any]:
    """A part or a section as a table, however it was given. Raises `RecipeError`."""
    if isinstance(value, Part):
        return part_table(value) if key in PARTS else value.model_dump(exclude_unset=True)
    if isinstance(value, str) and key in PARTS:
        return {"name": value}
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType]
    if key in PARTS:
        names = ", ".join(parts.names(key))
        raise RecipeError(f"{key} = {shown(value)}: give the name of a {key}, one of {names}")
    if key in SECTIONS:
        first = next(iter(SECTIONS[key].model_fields))
        raise RecipeError(
            f"{key} = {shown(value)}: {key} is a table of settings; name one of them, "
            f"as in --{key}.{first} VALUE"
        )
    raise RecipeError(f"{key} is a single value and has no settings of its own")


def part_table(part: Part) -> dict[str, Any]:
    """A part with its name and all of its settings."""
    return {"name": part.part_name(), **part.model_dump(mode="json")}
