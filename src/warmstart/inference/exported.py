"""What the engines share that compute one exported graph, without torch.

A graph reads `ids` [B, L], `lengths` [B] and, where the model knows token types, `types` [B, L]; it
gives `outputs` as `Runner.run` does. It is exported once, through ONNX, from the same forward pass
that answers in training.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warmstart.errors import BaseModelError, RecipeError
from warmstart.inference.engine import Runner, TokenBatch
from warmstart.inference.forms import Formed, merged, silence

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Task

GRAPH = "model.onnx"
INPUTS = ("ids", "lengths", "types")
LARGEST = 1_500_000_000
"""Bytes of weights up to which a graph is one file (protobuf ends at 2 GB)."""
TRIED = ((11, 7, 3), (5,), (1, 9))
"""Lengths of the rows of batches on which a graph is tried."""
CLOSE = 1e-3
"""How far a graph in float32 may be from torch, of the largest output."""


class Exported(Formed):
    """An engine that computes an exported graph of an encoder, or of a decoder under a head."""

    @abstractmethod
    def convert(self, graph: Path, out: Path, rows: TokenizedDataset | None, pad_id: int) -> None:
        """Write the engine's own form of an ONNX file into a folder; `rows` are those that a
        rounding to 8 bits may be calibrated on."""

    @abstractmethod
    def start(self, form: Path, threads: int) -> GraphRunner: ...

    def check_task(self, task: Task) -> None:
        if not task.head.gives_logits and not task.head.gives_vectors:
            raise RecipeError(
                f"engine {self.part_name()} computes labels, numbers, entities, spans and vectors, "
                f"and task {task.part_name()} asks for whole texts; take engine torch, "
                "openvino_genai or ctranslate2"
            )

    def make(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None
    ) -> None:
        with tempfile.TemporaryDirectory() as place:
            graph = Path(place) / GRAPH
            tried = export(folder, task, pad_id, graph)
            with silence():
                self.convert(graph, out, rows, pad_id)
        self._check(out, tried)

    def _check(self, form: Path, tried: list[tuple[TokenBatch, np.ndarray]]) -> None:
        """Raise `BaseModelError` where the form does not answer as torch does."""
        runner = self.start(form, threads=1)
        for batch, wanted in tried:
            got = runner.run(batch)
            gap = _gap(got, wanted, batch) if got.shape == wanted.shape else float("nan")
            if not gap <= (CLOSE if self.precision_is_full else float("inf")):
                raise BaseModelError(
                    f"engine {self.part_name()} does not compute this model as torch does (outputs "
                    f"differ by {gap:.2g}); take engine torch"
                )

    @property
    @abstractmethod
    def precision_is_full(self) -> bool:
        """Whether its answers are those of float32."""


class GraphRunner(Runner):
    """A graph in memory. A subclass says what its inputs are called, and computes them."""

    names: frozenset[str]

    def run(self, batch: TokenBatch) -> np.ndarray:
        values = {"ids": batch.ids, "lengths": batch.lengths, "types": batch.types}
        if values["types"] is None:
            values["types"] = np.zeros_like(batch.ids)
        return self.compute({name: values[name] for name in INPUTS if name in self.names})

    def compute(self, inputs: Mapping[str, Any]) -> np.ndarray:
        """The float32 outputs for named int64 arrays."""
        raise NotImplementedError


def export(
    folder: Path, task: Task, pad_id: int, graph: Path
) -> list[tuple[TokenBatch, np.ndarray]]:
    """Write a saved model as an ONNX file in float32; returns some batches with what torch answers
    to them. Raises `BaseModelError` where torch cannot export it."""
    import torch
    from torch.export import Dim

    from warmstart.models.forward import Forward

    model = merged(folder)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = pad_id
    forward = Forward(model, task.forward(model).readout)
    typed = (getattr(model.config, "type_vocab_size", 0) or 0) > 1

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, lengths: Any, types: Any = None) -> Any:
            return forward.logits(ids, lengths, training=False, types=types)

    kind = model.config.model_type
    try:
        tried = [(batch, _answer(forward, batch)) for batch in _batches(model, pad_id, typed)]
        first = tried[0][0]
        inputs = tuple(torch.from_numpy(v) for v in (first.ids, first.lengths, first.types)
                       if v is not None)  # fmt: skip
        both, rows = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC}
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        with silence():
            program = torch.onnx.export(
                Graph().eval(), inputs, dynamo=True, verbose=False,
                input_names=INPUTS[: len(inputs)], output_names=["outputs"],
                dynamic_shapes=(both, rows, both)[: len(inputs)],
            )  # fmt: skip
            assert program is not None
            program.save(str(graph), external_data=size > LARGEST)
    except Exception as error:  # of all kinds, and of many lines
        raise BaseModelError(
            f"torch cannot export this '{kind}' model; take engine torch"
        ) from error
    return tried


def _batches(model: Any, pad_id: int, typed: bool) -> Iterator[TokenBatch]:
    rng, rows = np.random.default_rng(0), model.get_input_embeddings().weight.shape[0]
    ordinary = np.array([i for i in range(min(rows, 1000)) if i != pad_id])
    for lengths in TRIED:
        sizes = np.array(lengths, np.int64)
        ids = rng.choice(ordinary, (len(sizes), int(sizes.max()))).astype(np.int64)
        ids[np.arange(ids.shape[1]) >= sizes[:, None]] = pad_id
        yield TokenBatch(ids, sizes, np.zeros_like(ids) if typed else None)


def _answer(forward: Any, batch: TokenBatch) -> np.ndarray:
    import torch

    ids, lengths = torch.from_numpy(batch.ids), torch.from_numpy(batch.lengths)
    types = None if batch.types is None else torch.from_numpy(batch.types)
    with torch.no_grad():
        return forward.logits(ids, lengths, training=False, types=types).numpy()


def _gap(got: np.ndarray, wanted: np.ndarray, batch: TokenBatch) -> float:
    """The largest difference, of the largest output; outputs of padding mean nothing."""
    if got.ndim == 3 and got.shape[1] == batch.ids.shape[1]:
        real = batch.mask.astype(bool)
        got, wanted = got[real], wanted[real]
    return float(np.abs(got - wanted).max() / max(1.0, float(np.abs(wanted).max())))
