"""All keys of a recipe, and what to say about one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic.fields import FieldInfo

from warmstart import part as parts
from warmstart.config.merge import PARTS, SECTIONS
from warmstart.errors import nearest

Fields = Mapping[str, FieldInfo]

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


def catalogue(top: Fields) -> dict[str, FieldInfo]:
    """Every key by its dotted name; of the parts, the settings of all that there are."""
    found: dict[str, FieldInfo] = {}
    for name, info in top.items():
        found[name] = info
        models = [parts.find(name, part) for part in parts.names(name)] if name in PARTS else []
        for model in models or ([SECTIONS[name]] if name in SECTIONS else []):
            found |= {f"{name}.{key}": inner for key, inner in model.model_fields.items()}
    return found


def unknown(key: str, top: Fields, part: str = "") -> str:
    """One line about a key that does not exist; `part` is the part that it was asked of."""
    head, _, rest = key.partition(".")
    if head in PARTS and rest:
        return _not_of_the_part(head, part or PARTS[head], rest)
    section = SECTIONS[head].model_fields if head in SECTIONS and rest else {}
    if near := difflib.get_close_matches(rest, section, n=1):
        return f"unknown key '{key}'. Did you mean '{head}.{near[0]}'?"
    known = catalogue(top)
    last = key.rpartition(".")[2].lower()
    guess = MEANT.get(last) or next((k for k in known if k.rpartition(".")[2] == last), None)
    if not section:
        guess = guess or next(iter(difflib.get_close_matches(key, known, n=1)), None)
    if guess:
        return f"unknown key '{key}'. Did you mean '{guess}'?"
    listing = ", ".join(f"{head}.{name}" for name in section) or ", ".join(top)
    return f"unknown key '{key}'. There are: {listing}; `warmstart recipe` explains them"


def _not_of_the_part(kind: str, name: str, setting: str) -> str:
    fields = {other: parts.find(kind, other).model_fields for other in parts.names(kind)}
    if owners := [other for other, own in fields.items() if setting in own]:
        return (
            f"{kind} {name} has no setting '{setting}', {kind} {' and '.join(owners)} has: "
            f"add --{kind} {owners[0]}, or leave {kind}.{setting} out"
        )
    there = nearest(setting, fields[name]) or " It has none."
    return f"{kind} {name} has no setting '{setting}'.{there}"
