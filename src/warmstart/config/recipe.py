"""The recipe: one strict model of a request. TOML file = command line = Python call.

Layers of it are plain nested dicts, merged in order (defaults < file < overrides) and checked
once, whole. A part may be given as its name, as a table with a `name`, or as an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import tomlkit
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from warmstart import part as parts
from warmstart.config import keys, toml
from warmstart.config.keys import PARTS, SECTIONS, nested, over, part_table, plain
from warmstart.config.validation import checked
from warmstart.data.readers.files import unusable
from warmstart.data.settings import Data
from warmstart.errors import shown
from warmstart.evaluation.settings import Evaluate
from warmstart.part import Part
from warmstart.training.settings import Forgetting, Scratch, Train

NAMED: Any = PARTS  # a name stands for a part until it is read
ENGINE = FieldInfo(description="what computes the answers")


def read_part(kind: str, value: Any) -> Part:
    """The part that a name, a table or an instance stands for. Raises `ValueError`."""
    if isinstance(value, Part):
        if value.kind != kind:
            raise ValueError(f"{value.part_name()} is a {value.kind}, not a {kind}")
        return value
    table = plain(kind, value)
    name = str(table.pop("name", PARTS[kind]))
    return checked(parts.find(kind, name), table, f"{kind}.", _unknown(name))


def _reader(kind: str) -> BeforeValidator:
    return BeforeValidator(partial(read_part, kind))


def _unknown(part: str = "") -> Callable[[str], str]:
    return lambda key: keys.describe_unknown(key, Recipe.model_fields, part)


class Recipe(BaseModel):
    """A request, whole. Frozen; unknown keys are refused with the nearest name."""

    model_config = Part.model_config

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
    task: Annotated[Part, _reader("task"), PlainSerializer(part_table)] = Field(
        default=NAMED["task"], description="what is predicted"
    )
    objective: Annotated[Part, _reader("objective"), PlainSerializer(part_table)] = Field(
        default=NAMED["objective"], description="why the weights move"
    )
    method: Annotated[Part, _reader("method"), PlainSerializer(part_table)] = Field(
        default=NAMED["method"], description="which weights move"
    )
    scratch: Scratch = Field(
        default_factory=Scratch, description="a new base with random weights, to be pretrained"
    )
    data: Data = Field(default_factory=Data, description="what is read and how it is split")
    train: Train = Field(default_factory=Train, description="how the weights are moved")
    forgetting: Forgetting = Field(
        default_factory=Forgetting, description="what holds the model to what its base knew"
    )
    evaluate: Evaluate = Field(default_factory=Evaluate, description="how the result is judged")

    @field_validator("data")
    @classmethod
    def _can_be_opened(cls, data: Data) -> Data:
        for name in keys.FILES:
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
        self.forgetting.check(method)
        task: Any = self.task
        objective: Any = self.objective
        if not task.trains:
            raise ValueError(
                f"task {task.part_name()} asks a model that is there already, and trains nothing: "
                f"warmstart evaluate MODEL DATA --task {task.part_name()}"
            )
        names = {task.objective, objective.part_name()}
        usual: Any = parts.find("objective", task.objective)
        own = objective.tasks
        apart = len(names) > 1 and "contrastive" in names and own is None
        apart |= (own or usual.tasks) is not None and task.part_name() not in (own or ())
        if task.head.name not in objective.heads or apart:
            raise ValueError(
                f"objective {objective.part_name()}, as it is set, does not train task "
                f"{task.part_name()}; leave objective.* out, or take {task.objective}"
            )
        return self

    @classmethod
    def of(cls, *layers: Mapping[str, Any], quiet: bool = False) -> Recipe:
        """Merge layers, the last one winning, and check the whole. Raises `RecipeError`.

        Keys may be nested tables or dotted names. An old spelling of a key gets a warning, unless
        `quiet`, as for what is recorded with a run.
        """
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = over(merged, nested(layer, quiet=quiet))
        for name, section in SECTIONS.items():
            if name in merged and not isinstance(merged[name], section):
                merged[name] = checked(section, plain(name, merged[name]), f"{name}.", _unknown())
        if "objective" not in merged and "task" in merged:
            task = merged["task"]
            kind: Any = task
            if not isinstance(task, Part):
                kind = parts.find("task", str(plain("task", task).get("name", PARTS["task"])))
            merged["objective"] = kind.objective
        return checked(cls, merged, "", _unknown())

    @classmethod
    def from_toml(cls, text: str, *overrides: Mapping[str, Any]) -> Recipe:
        """A recipe from TOML text. Raises `RecipeError`."""
        return cls.of(toml.read_toml(text), *overrides)

    def to_toml(self) -> str:
        """The recipe as TOML; what is unset is left out."""
        return tomlkit.dumps(toml.toml_table(self))

    def commented(self) -> str:
        """The complete recipe with a comment on every key; what is unset is commented out."""
        return "\n".join(toml.commented(self)) + "\n"


def catalogue() -> dict[str, FieldInfo]:
    """Every key by its dotted name, those of engines besides; of the parts, the settings of all
    that there are."""
    return keys.catalogue({**Recipe.model_fields, "engine": ENGINE})
