"""The same weights in fewer bits, as an engine's own form of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from warmstart import part as parts
from warmstart.compression.base import Compression, Source


class Quantize(Compression):
    """Rounding of the weights, or of what is computed too. The form stands in the model's folder
    beside the weights, and is asked for by `--engine` and `--engine.precision`."""

    precision: Literal["int8", "int8_full", "bf16"] = Field(
        default="int8",
        description="int8: weights in 8 bits (OpenVINO); int8_full: what is computed too, "
        "calibrated on the run's validation rows; bf16: 16 bits, as torch computes them",
    )
    allowed_loss: float = Field(
        default=0.5,
        ge=0,
        le=100,
        description="points of the main score that the product may lose and still be called done",
    )

    @property
    def engine(self) -> tuple[str, Mapping[str, Any]]:
        name = "torch" if self.precision == "bf16" else "openvino"
        return name, {"precision": self.precision}

    @property
    def is_form(self) -> bool:
        return True

    def check(self, source: Source) -> None:
        if self.precision == "bf16":
            return
        name, settings = self.engine
        engine: Any = parts.make("engine", name, dict(settings))
        engine.require((*engine.libraries, *engine.makers, "nncf"))
