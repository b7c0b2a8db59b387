"""ONNX Runtime on this machine: the graph of the saved model, in float32 or rounded to 8 bits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from warmstart.inference.exported import GRAPH, Exported, GraphRunner

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset


class Onnx(Exported):
    """Answers with ONNX Runtime."""

    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    makers: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript")

    precision: Literal["fp32", "int8"] = Field(
        default="fp32",
        description="int8: matrices in 8 bits, a quarter of the size; activations are rounded by "
        "the batch they stand in, so that an answer moves with the rows beside it (by 0.11 seen)",
    )

    @property
    def form(self) -> str:
        return self.precision

    @property
    def precision_is_full(self) -> bool:
        return self.precision == "fp32"

    @property
    def batch_tolerance(self) -> float | None:
        return 1e-5 if self.precision_is_full else None

    def convert(self, graph: Path, out: Path, rows: TokenizedDataset | None, pad_id: int) -> None:
        if self.precision_is_full:
            for path in graph.parent.iterdir():  # weights of over 1.5 GB stand beside the graph
                shutil.copy(path, out)
            return
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(graph, out / GRAPH, per_channel=True, weight_type=QuantType.QInt8,
                         extra_options={"MatMulConstBOnly": True})  # fmt: skip

    def start(self, form: Path, threads: int) -> OnnxRunner:
        return OnnxRunner(form / GRAPH, threads)


class OnnxRunner(GraphRunner):
    """A session of ONNX Runtime, whose threads sleep while they wait."""

    def __init__(self, graph: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session: Any = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self.names = frozenset(node.name for node in self.session.get_inputs())

    def compute(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return self.session.run(None, dict(inputs))[0]
