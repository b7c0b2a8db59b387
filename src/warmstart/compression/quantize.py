"""The same weights in fewer bits, as an engine's own form of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from warmstart import part as parts
from warmstart.compression.base import Compression, Source
from warmstart.errors import RecipeError


class Quantize(Compression):
    """Rounding of the weights, or of what is computed too. The form stands in the model's folder
    beside the weights, and is asked for by `--engine` and `--engine.precision`."""

    precision: Literal["int8", "int8_full", "bf16"] = Field(
        default="int8",
        description="int8: weights in 8 bits; int8_full: what is computed too, calibrated on the "
        "run's validation rows (OpenVINO, no texts); bf16: 16 bits",
    )
    engine: Literal["openvino", "openvino_genai", "ctranslate2"] | None = Field(
        default=None,
        description="whose form; unset: openvino, for texts openvino_genai of a decoder and "
        "ctranslate2 of an encoder-decoder; of bf16 torch where the engine has none",
    )
    allowed_loss: float = Field(
        default=0.5,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    @property
    def is_form(self) -> bool:
        return True

    def computed_by(self, source: Source) -> tuple[str, Mapping[str, Any]]:
        from warmstart.models.architectures import family_of

        name, usual = self.engine, "openvino"
        if source.task.head.generates:
            decodes = family_of(source.model.config).kind == "decoder"
            usual = "openvino_genai" if decodes else "ctranslate2"
        if name is None and self.precision == "bf16" and usual != "openvino_genai":
            usual = "torch"
        name = name or usual
        if self.precision == "int8_full" and name != "openvino":
            raise RecipeError(
                "compress.precision int8_full is of models that give labels, numbers or vectors; "
                f"for task {source.task.part_name()} take int8"
            )
        return name, {"precision": self.precision}

    def check(self, source: Source) -> None:
        name, settings = self.computed_by(source)
        engine: Any = parts.make("engine", name, dict(settings))
        if name == "torch":
            return
        engine.check_task(source.task)
        if source.task.head.generates:
            engine.check_model(source.model.config.to_dict())
        makes = ("nncf",) if name != "ctranslate2" and self.precision != "bf16" else ()
        engine.require((*engine.libraries, *engine.makers, *makes))
