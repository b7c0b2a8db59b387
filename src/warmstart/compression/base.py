"""What every way to compress answers: which smaller model it begins with, whether that learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from warmstart.part import Part

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The model that is made smaller.

    Args:
        folder: of the model.
        model: the model in memory, whole: what an adapter changes is part of it.
        tokenizer: its own.
        task: what it was trained for, as its folder says.
        rows: gives the token ids of the rows that it learned from and was validated on, one array
            a split.
    """

    folder: Path
    model: Any
    tokenizer: Any
    task: Any
    rows: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The smaller model before it learns; `notes` are for people."""

    model: Any
    tokenizer: Any
    notes: Sequence[str] = field(default_factory=list[str])


class Compression(Part):
    """A way to make a trained model smaller or quicker. Its fields are the settings
    `--compress.NAME VALUE`."""

    kind: ClassVar[str] = "compression"

    allowed_loss: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    @property
    def trains(self) -> bool:
        """Whether the smaller model learns from the one that it comes from."""
        return False

    @property
    def times(self) -> int:
        """How many times as many passes as tuning would make, where the recipe names none."""
        return 1

    @property
    def student(self) -> str:
        """A base to begin with, with a fresh head; empty where `begin` makes the beginning."""
        return ""

    @property
    def unlabelled(self) -> str:
        """A file of texts without labels that it learns from too, by the word of the source."""
        return ""

    @property
    def hosted(self) -> str:
        """The hosted model whose word it takes for those texts in the source's place, or none."""
        return ""

    @property
    def keeps_answers(self) -> bool:
        """Whether a text that it writes is the source's own wherever all tokens stayed, so that
        equal ones are no chance, although it is surer of them."""
        return False

    @property
    def is_form(self) -> bool:
        """Whether the product is an engine's own form of the same model, and no folder."""
        return False

    @property
    def objective(self) -> Mapping[str, Any]:
        """Settings of the objective `task_distill` that the training needs."""
        return {}

    def computed_by(self, source: Source) -> tuple[str, Mapping[str, Any]]:
        """The engine that computes the product, and its settings. Raises `RecipeError`."""
        return "torch", {}

    def check(self, source: Source) -> None:
        """Raise `RecipeError` where it cannot be done, before anything is written."""

    def begin(self, source: Source) -> Start:
        """The smaller model. What belongs to `source` may be changed in place. Raises
        `RecipeError`."""
        raise NotImplementedError
