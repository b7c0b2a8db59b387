"""A student with fewer layers, or of another base, that learns to answer as its teacher does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from warmstart.compression.base import Compression, Source, Start
from warmstart.errors import RecipeError


class Distill(Compression):
    """Distillation (Hinton et al. 2015): the student begins with some of the teacher's layers
    (DistilBERT, Sanh et al. 2019) and learns from its probabilities, its hidden states and the
    labels."""

    layers: int | None = Field(
        default=None, ge=1, description="layers of the student; unset: half of the teacher's"
    )
    keep: Literal["even", "first"] = Field(
        default="even",
        description="which layers: evenly taken, the first and the last among them, or the first "
        "ones",
    )
    base: str = Field(
        default="", description="another base to begin with, in the place of the teacher's layers"
    )
    teacher: str = Field(
        default="",
        description="a larger run or model folder of the same task; unset: the run itself",
    )
    texts: str = Field(
        default="",
        description="a file of more texts without labels, on which the teacher's word is taken; "
        "for tasks with one label a row",
    )
    allowed_loss: float = Field(
        default=3.0,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    @property
    def trains(self) -> bool:
        return True

    @property
    def times(self) -> int:
        return 2

    @property
    def unlabelled(self) -> str:
        return self.texts

    @property
    def student(self) -> str:
        return self.base

    @property
    def objective(self) -> Mapping[str, Any]:
        own = {"teacher": self.teacher} if self.teacher else {}
        return {**own, "keep_head": not self.base}

    def check(self, source: Source) -> None:
        if self.base and (self.layers is not None or self.keep != "even"):
            raise RecipeError(
                "compress.base begins with another base, and compress.layers with layers of the "
                "teacher; give one of the two"
            )
        if self.texts and not source.task.head.single_label:
            raise RecipeError(
                f"compress.texts goes with tasks of one label a row, and this is "
                f"{source.task.part_name()}; leave it out"
            )
        if not self.base:
            _count(source, self.layers, "distill")

    def begin(self, source: Source) -> Start:
        from warmstart.models.surgery.blocks import keep_layers

        count, of = _count(source, self.layers, "distill")
        kept = chosen(count, of, self.keep)
        names = ", ".join(str(number + 1) for number in kept)
        note = f"begins with layers {names} of {of}"
        return Start(keep_layers(source.model, kept), source.tokenizer, [note])


def chosen(count: int, of: int, keep: str) -> list[int]:
    """Which `count` layers of so many are kept, by number from 0."""
    from warmstart.models.surgery.blocks import spread_evenly

    return spread_evenly(count, of) if keep == "even" else [*range(count)]


def _count(source: Source, layers: int | None, verb: str) -> tuple[int, int]:
    """The layers to keep, and how many there are: of each stack. Raises `RecipeError`."""
    from warmstart.models.surgery.blocks import stack_sizes

    of = min(stack_sizes(source.model))
    count = max(1, of // 2) if layers is None else layers
    if count >= of:
        raise RecipeError(
            f"compress.layers = {count}: the model has {of} layers, and {verb} takes some out; "
            f"give {of - 1} or fewer" if of > 1 else
            f"the model has a single layer, and {verb} takes some out; quantize it"
        )  # fmt: skip
    return count, of
