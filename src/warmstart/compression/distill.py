"""A student with fewer layers, or of another base, that learns to answer as its teacher does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from warmstart.compression.base import Compression, Source, Start
from warmstart.errors import RecipeError, shown

LAYERS = re.compile(r"[1-9]\d{0,3}(-[1-9]\d{0,3})?")


def as_layers(value: Any) -> Any:
    """`compress.layers` as text: one number, or one of the encoder and one of the decoder."""
    text = value if value is None or isinstance(value, bool) else str(value)
    if text is not None and not (isinstance(text, str) and LAYERS.fullmatch(text)):
        raise ValueError(
            f"{shown(value)} is no number of layers; give one of at least 1, or of an "
            "encoder-decoder two, as in 12-6"
        )
    return text


class Distill(Compression):
    """Distillation (Hinton et al. 2015): the student begins with some of the teacher's layers
    (DistilBERT, Sanh et al. 2019) and learns from its probabilities, its hidden states and the
    labels."""

    layers: str | None = Field(
        default=None,
        description="layers of the student; unset: half of the teacher's. Of an encoder-decoder "
        "that writes those of its decoder, or, as in 12-6, of both",
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
        description="a larger run or model folder of the same task, or openai:MODEL, which labels "
        "compress.texts; unset: the run itself",
    )
    texts: str = Field(
        default="",
        description="a file of more texts without labels, or of prompts without answers, on which "
        "the teacher's word is taken; for tasks with one label a row, or a text",
    )
    allowed_loss: float = Field(
        default=3.0,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    _as_layers = field_validator("layers", mode="before")(as_layers)

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
        own: dict[str, Any] = {"keep_head": not self.base}
        if self.hosted:  # which has no probabilities: what is learned are its answers
            return {**own, "soft_weight": 0.0, "hidden_weight": 0.0, "hard_weight": 1.0}
        return {**own, "teacher": self.teacher} if self.teacher else own

    @property
    def hosted(self) -> str:
        from warmstart.inference.openai import is_hosted

        return self.teacher if is_hosted(self.teacher) else ""

    def check(self, source: Source) -> None:
        from warmstart.inference.openai import HOSTED

        if self.base and (self.layers is not None or self.keep != "even"):
            raise RecipeError(
                "compress.base begins with another base, and compress.layers with layers of the "
                "teacher; give one of the two"
            )
        head, name = source.task.head, source.task.part_name()
        if self.texts and not (head.single_label or head.generates):
            raise RecipeError(
                f"compress.texts goes with tasks of one label a row, or of a text, and this is "
                f"{name}; leave it out"
            )
        if self.hosted and not self.texts:
            raise RecipeError(
                f"{self.hosted} teaches by what it answers: name a file of texts without labels, "
                "--compress.texts FILE"
            )
        if self.hosted and name not in (*HOSTED, "chat"):
            raise RecipeError(
                f"a hosted model teaches in task {', '.join(HOSTED)} or chat, and this is {name}; "
                "name a run or a model folder as compress.teacher"
            )
        if not self.base:
            layers_left(source, self.layers, self.keep)

    def begin(self, source: Source) -> Start:
        from warmstart.models.surgery.blocks import keep_layers

        kept, words = layers_left(source, self.layers, self.keep)
        return Start(keep_layers(source.model, kept), source.tokenizer, [f"begins with {words}"])


def layers_left(source: Source, layers: str | None, keep: str) -> tuple[list[list[int]], str]:
    """Which layers of each stack are left, by number from 0, and the same in words. Raises
    `RecipeError` where nothing would be taken out."""
    from warmstart.models.surgery.blocks import spread_evenly, stack_sizes

    sizes = stack_sizes(source.model)
    counts = _counts(sizes, layers, writes=source.task.head.generates)
    kept = [spread_evenly(count, of) if keep == "even" else [*range(count)]
            for count, of in zip(counts, sizes, strict=True)]  # fmt: skip
    names, words = ("encoder", "decoder") if len(sizes) > 1 else ("",), list[str]()
    for name, left, of in zip(names, kept, sizes, strict=True):
        numbers = ", ".join(str(number + 1) for number in left)
        which = f"layers {numbers} of {of}" if len(left) < of else f"all {of} layers"
        words.append(f"{which} of the {name}" if name else which)
    return kept, " and ".join(words)


def _counts(sizes: Sequence[int], layers: str | None, *, writes: bool) -> list[int]:
    """How many layers of each stack are left. A single number is that of the decoder where it
    writes, since that is computed for every token, and the encoder once."""
    both = len(sizes) > 1
    of = sizes[-1] if writes else min(sizes)
    wanted = [int(part) for part in layers.split("-")] if layers else [max(1, of // 2)]
    if len(wanted) > len(sizes):
        raise RecipeError(
            f"compress.layers = {layers}: an encoder and a decoder have two numbers of layers, and "
            f"this model has one stack of {of}; give one number below {of}"
        )
    if len(wanted) == 1 and both:
        wanted = [sizes[0], *wanted] if writes else wanted * 2
    most = "-".join(map(str, sizes)) if both else str(of)
    if [*wanted] == [*sizes] or any(own > of for own, of in zip(wanted, sizes, strict=True)):
        raise RecipeError(
            "the model has a single layer, and none can be taken out; quantize it"
            if of == 1 and not layers else
            f"compress.layers = {layers}: the model has {most} layers, and some are to be taken "
            f"out; give {of - 1} or fewer" if of > 1 else
            f"compress.layers = {layers}: the model has {most} layers, none of which can be taken "
            "out; quantize it"
        )  # fmt: skip
    return wanted
