"""The values that travel between the layers. Nothing here knows a model or a file.

What a run found is a `RunReport`: `metrics.json`, the page, the model card, the terminal and the
comparison read its fields. A record is written and read back without loss: what it has no field for
stays in `more`, so that files of older and newer versions can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import NoneType
from typing import Any, Self, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer: the value, how sure the model is (0 to 1), and the score of every choice."""

    id: str
    value: Any
    confidence: float
    scores: Mapping[str, float] = field(default_factory=dict[str, float])


Json = Mapping[str, Any]
"""A JSON object."""


class Record:
    """A frozen dataclass that is a JSON object.

    A field without a default is always there; one whose default is None is left out when it is
    None. The entries of `scores` and `more` stand beside the fields.
    """

    __slots__ = ()

    @classmethod
    def from_json(cls, table: Json) -> Self:
        """Read an object, or whatever answers `table[key]` with an error of its own."""
        known = _fields(cls)
        values: dict[str, Any] = {
            name: _read(kind, table[name]) for name, (kind, optional) in known.items()
            if name not in ("scores", "more") and (name in table or not optional)
        }  # fmt: skip
        rest = {key: value for key, value in table.items() if key not in known}
        if "scores" in known:
            scored = {key for key, value in rest.items() if _is_score(value)}
            values["scores"] = {key: Score(**rest[key]) for key in rest if key in scored}
            rest = {key: value for key, value in rest.items() if key not in scored}
        if "more" in known:
            values["more"] = rest
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The object as it stands in a file."""
        table: dict[str, Any] = {}
        for name, (_, optional) in _fields(type(self)).items():
            value = getattr(self, name)
            if name in ("scores", "more"):
                table |= {key: _write(entry) for key, entry in value.items()}
            elif value is not None or not optional:
                table[name] = _write(value)
        return table


@cache
def _fields(record: Any) -> dict[str, tuple[Any, bool]]:
    """Field → its type, and whether it may be missing."""
    hints = get_type_hints(record)
    return {
        each.name: (
            hints[each.name],
            each.default is not MISSING or each.default_factory is not MISSING,
        )
        for each in fields(record)
    }


def _read(kind: Any, value: Any) -> Any:
    """A JSON value as a field's type has it."""
    kinds = [inner for inner in get_args(kind) if inner is not NoneType]
    if get_origin(kind) is tuple:
        return tuple(_read(kinds[0], entry) for entry in value)
    kind = kinds[0] if len(kinds) == 1 else kind
    if isinstance(kind, type) and issubclass(kind, Record) and value is not None:
        return kind.from_json(value)
    return value


def _write(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    return [_write(entry) for entry in value] if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType]


def _is_score(value: Any) -> bool:
    return isinstance(value, Mapping) and set(map(str, value)) == {"value", "low", "high"}  # pyright: ignore[reportUnknownArgumentType]


@dataclass(frozen=True, slots=True)
class Score(Record):
    """A figure, and the interval that holds the true one at the confidence level; None where the
    rows are too few to give one."""

    value: float
    low: float | None
    high: float | None

    def times(self, scale: float) -> Score:
        """Each of them multiplied."""
        bounds = (bound if bound is None else scale * bound for bound in (self.low, self.high))
        return Score(scale * self.value, *bounds)


@dataclass(frozen=True, slots=True)
class ClassScores(Record):
    """The figures of one class; `support` rows have it, `predicted` were given it."""

    label: str
    precision: float
    recall: float
    f1: float
    f1_low: float
    f1_high: float
    support: int
    predicted: int
    more: Json = field(default_factory=dict[str, Any])

    @property
    def f1_score(self) -> Score:
        """F1 with its interval."""
        return Score(self.f1, self.f1_low, self.f1_high)


@dataclass(frozen=True, slots=True)
class BaselineScores(Record):
    """A simple method's figures on the same rows, and how the model stands against it."""

    name: str
    title: str
    scores: Mapping[str, Score]
    notes: tuple[str, ...] = ()
    model_minus_baseline: Json | None = None
    outcome: str | None = None
    sentence: str | None = None
    more: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class BaselineComparison(Record):
    """The model against the strongest baseline: "better", "worse" or "noise", and by how much."""

    title: str
    difference: float
    p_value: float
    outcome: str
    sentence: str
    more: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """What is made of something that was measured: of the curves, or of what was forgotten.

    `verdict` is of the curves, `outcome` of what was forgotten.
    """

    sentence: str
    advice: str
    verdict: str | None = None
    outcome: str | None = None
    more: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Reliability(Record):
    """How far stated confidence and accuracy are apart: expected error, loss, and bins; and, in
    `more`, what chance alone would make of it."""

    ece: float
    nll: float
    bins: Sequence[Json]
    more: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """Whether the stated confidence is true, as it is and at the temperature of validation."""

    temperature: float
    fitted: bool
    before: Reliability
    after: Reliability
    sentence: str
    alarm: bool = False
    more: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Metrics(Record):
    """The scores on the test rows: `metrics.json`.

    Args:
        scores: figure → value and interval.
        main: the figure that stands first.
        titles: the figures that are shown → what they are called.
        scale: what the main figure is multiplied by to be a share.
        wrong: rows that were wrong, where right and wrong can be told.
        more: what only some tasks have, such as a threshold.
    """

    scores: Mapping[str, Score]
    main: str
    titles: Mapping[str, str]
    rows: int
    confidence_level: float
    bootstrap: int
    comparison: BaselineComparison | None
    verdict: str
    scale: float = 1.0
    wrong: int | None = None
    per_class: tuple[ClassScores, ...] = ()
    lower_is_better: Sequence[str] = field(default_factory=list[str])
    baselines: tuple[BaselineScores, ...] = ()
    curves: Verdict | None = None
    calibration: Calibration | None = None
    labels: Sequence[str] | None = None
    confusion_matrix: Sequence[Sequence[int]] | None = None
    epoch_score: str | None = None
    mistakes_lead: str | None = None
    notes: Sequence[str] = field(default_factory=list[str])
    forgetting: Verdict | None = None
    sections: Sequence[Json] | None = None
    speed: Json | None = None
    more: Json = field(default_factory=dict[str, Any])

    @property
    def main_score(self) -> Score:
        """The figure that stands first."""
        return self.scores[self.main]

    @property
    def main_title(self) -> str:
        """What it is called."""
        return self.titles.get(self.main, self.main)

    @property
    def shown(self) -> dict[str, str]:
        """The figures that are shown and there, the main one first, and what they are called."""
        return {name: title for name, title in self.titles.items() if name in self.scores}


@dataclass(frozen=True, slots=True)
class RunFolder(Record):
    """Where a run stands; `model_path` where its model does, if somewhere else."""

    name: str = ""
    path: str = ""
    model_path: str = "path/to/this/folder"


@dataclass(frozen=True, slots=True)
class TaskName(Record):
    """A task and its head, by name."""

    name: str = "classification"
    head: str = "classes"


@dataclass(frozen=True, slots=True)
class RunReport(Record):
    """Everything that a run found. What is not known is empty.

    Args:
        base: its name, parameters, those that were trained, `sha256`, `hub_id`.
        data: the ledger's summary: rows, splits, dropped, tokens, notes.
        history: a row of figures for each epoch.
        mistakes: what was wrong, the most telling first.
        proof: how the saved folder was checked.
        next: commands, and what each does.
    """

    title: str = ""
    created: str = ""
    run: RunFolder = RunFolder()
    task: TaskName = TaskName()
    method: str = ""
    base: Json = field(default_factory=dict[str, Any])
    adapter: bool = False
    license: str | None = None
    language: str | None = None
    datasets: Sequence[str] | None = None
    recipe_toml: str = ""
    data: Json = field(default_factory=dict[str, Any])
    leakage: Any = None
    labels: Sequence[str] = field(default_factory=list[str])
    metrics: Metrics | None = None
    history: Sequence[Json] = field(default_factory=list[Json])
    mistakes: Sequence[Json] = field(default_factory=list[Json])
    speed: Json = field(default_factory=dict[str, Any])
    proof: Json = field(default_factory=dict[str, Any])
    next: Sequence[Sequence[str]] = field(default_factory=list[Sequence[str]])
    versions: Json = field(default_factory=dict[str, Any])
    more: Json = field(default_factory=dict[str, Any])

    @property
    def verdict(self) -> str:
        """The whole result in a sentence."""
        return self.metrics.verdict if self.metrics else ""


class Listener:
    """Somebody who wants to know; a progress bar, for instance."""

    def begin_run(self, name: str, number: int, of: int) -> None:
        """Before each run of a comparison; `number` counts from 1."""

    def step(self, step: Any, total: int) -> None:
        """After every step (`training.loop.Step`) of `total`."""

    def epoch(self, row: dict[str, Any]) -> None:
        """After every validation."""

    def note(self, text: str) -> None:
        """Of what a person should know at once."""
