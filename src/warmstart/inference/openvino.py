"""OpenVINO on this machine: the fastest way to answer on most processors of Intel and AMD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.errors import RecipeError
from warmstart.inference.exported import Exported, GraphRunner

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset

MODEL = "model.xml"
CALIBRATION_ROWS = 256
HINTS = {"bf16": "bf16"}
"""Precision of the recipe → of the computation; all others compute in float32."""


class Openvino(Exported):
    """Answers with OpenVINO."""

    libraries: ClassVar[tuple[str, ...]] = ("openvino",)
    makers: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript")

    precision: Literal["fp32", "bf16", "int8", "int8_full"] = Field(
        default="fp32",
        description="bf16: 16 bits, where the processor has them; int8: weights in 8 bits, a "
        "quarter of the size; int8_full: activations too, calibrated on the run's own rows by "
        "`warmstart build`",
    )

    @property
    def form(self) -> str:
        return "fp32" if self.precision == "bf16" else self.precision

    @property
    def precision_is_full(self) -> bool:
        return self.form == "fp32"

    @property
    def batch_tolerance(self) -> float | None:
        return {"fp32": 1e-5, "bf16": 0.05}.get(self.precision, 0.02)

    def convert(self, graph: Path, out: Path, rows: TokenizedDataset | None, pad_id: int) -> None:
        import openvino

        model: Any = openvino.Core().read_model(graph)
        if not self.precision_is_full:
            model = self._rounded(model, rows, pad_id)
        openvino.save_model(model, out / MODEL, compress_to_fp16=False)

    def _rounded(self, model: Any, rows: TokenizedDataset | None, pad_id: int) -> Any:
        self.require(("nncf",))
        import nncf

        if self.precision == "int8":
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        if rows is None:
            raise RecipeError(
                "engine.precision int8_full is calibrated on rows of the data; build it first: "
                "warmstart build RUN --engine openvino --engine.precision int8_full"
            )
        names = frozenset(name for node in model.inputs for name in node.names)
        batches = list(_calibration(rows, pad_id, names))
        return nncf.quantize(
            model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
        )  # fmt: skip

    def start(self, form: Path, threads: int) -> OpenvinoRunner:
        return OpenvinoRunner(form / MODEL, threads, HINTS.get(self.precision, "f32"))


class OpenvinoRunner(GraphRunner):
    """A model that OpenVINO has compiled for this processor."""

    def __init__(self, model: Path, threads: int, hint: str) -> None:
        import openvino

        compiled: Any = openvino.Core().compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
        )
        self.names = frozenset(name for node in compiled.inputs for name in node.names)
        self._compiled = compiled

    def compute(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return np.array(self._compiled(dict(inputs))[0], np.float32)


def _calibration(
    rows: TokenizedDataset, pad_id: int, names: frozenset[str]
) -> Iterator[dict[str, np.ndarray]]:
    """Single rows, the inputs of the graph by name."""
    from warmstart.data.tokens.batching import pad

    for row in range(min(len(rows), CALIBRATION_ROWS)):
        ids, lengths = pad(rows, np.array([row]), pad_id, int(rows.lengths[row]))
        types = np.zeros_like(ids)
        if rows.types is not None:
            types = rows.padded(rows.types, np.array([row]), ids.shape[1], 0)
        values = {"ids": ids, "lengths": lengths, "types": types}
        yield {name: value for name, value in values.items() if name in names}
