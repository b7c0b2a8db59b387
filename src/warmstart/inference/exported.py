"""What the engines share that compute one exported graph, without torch.

A graph reads `ids` [B, L], `lengths` [B] and, where the model knows token types, `types` [B, L]; it
gives `outputs` as `Runner.run` does. It is exported once, through ONNX, from the same forward pass
that answers in training, and stands in the model's folder beside a manifest: a form that belongs to
other weights, or whose files have changed, is made again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.errors import BaseModelError, RecipeError, RunError
from warmstart.files import read_json, usual_mode, write_json
from warmstart.inference.engine import Engine, Runner, TokenBatch
from warmstart.models.checks import config_file, file_sha256, weights_sha256

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.tasks.base import Task

MANIFEST = "manifest.json"
GRAPH = "model.onnx"
INPUTS = ("ids", "lengths", "types")
LARGEST = 1_500_000_000
"""Bytes of weights up to which a graph is one file (protobuf ends at 2 GB)."""
TRIED = ((11, 7, 3), (5,), (1, 9))
"""Lengths of the rows of batches on which a graph is tried."""
CLOSE = 1e-3
"""How far a graph in float32 may be from torch, of the largest output."""


class Exported(Engine):
    """An engine that computes an exported graph of an encoder, or of a decoder under a head."""

    libraries: ClassVar[tuple[str, ...]]
    """What has to be installed to compute, the first to make the form too."""
    makers: ClassVar[tuple[str, ...]]
    """What has to be installed besides, to make the form."""

    threads: int = Field(default=0, ge=0, description="threads that compute; 0: as torch would")

    @property
    @abstractmethod
    def form(self) -> str:
        """The folder's name of the form: precisions that share it give the same one."""

    @abstractmethod
    def convert(self, graph: Path, out: Path, rows: TokenizedDataset | None, pad_id: int) -> None:
        """Write the engine's own form of an ONNX file into a folder; `rows` are those that a
        rounding to 8 bits may be calibrated on."""

    @abstractmethod
    def start(self, form: Path, threads: int) -> GraphRunner:
        """The form in memory, which computes with so many threads."""

    def build(
        self, folder: Path, out: Path, task: Task, pad_id: int, rows: TokenizedDataset | None = None
    ) -> Path:
        name = self.part_name()
        if not task.head.gives_logits and not task.head.gives_vectors:
            raise RecipeError(
                f"engine {name} computes labels, numbers, entities, spans and vectors, and task "
                f"{task.part_name()} asks for whole texts; take engine torch"
            )
        form, source = out / self.form, fingerprint_of(folder)
        if fits(form, source):
            return form
        require(name, (*self.libraries, *self.makers))
        try:
            out.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".", dir=out))
        except OSError as error:
            raise RunError(
                f"cannot write to {out}, where engine {name} keeps its form of the model: "
                f"{error.strerror}; copy the model to a place of your own"
            ) from error
        try:
            with tempfile.TemporaryDirectory() as place:
                graph = Path(place) / GRAPH
                tried = export(folder, task, pad_id, graph)
                with _silence():
                    self.convert(graph, part, rows, pad_id)
            self._check(part, tried)
            sums = {path.name: file_sha256(path) for path in sorted(part.iterdir())}
            made = {lib: version(lib) for lib in (*self.libraries, *self.makers, "torch")}
            write_json(part / MANIFEST, {"engine": name, "source": source, "files": sums,
                                         "versions": made})  # fmt: skip
            os.chmod(part, usual_mode(out) | 0o111)
            shutil.rmtree(form, ignore_errors=True)
            os.replace(part, form)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return form

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

    def open(self, folder: Path, task: Task, pad_id: int) -> Runner:
        from warmstart.training.precision import use_cores

        require(self.part_name(), self.libraries)
        manifest = read_json(folder / MANIFEST)
        files = [(folder / name, wanted) for name, wanted in manifest["files"].items()]
        changed = [path for path, wanted in files
                   if not path.is_file() or file_sha256(path) != wanted]  # fmt: skip
        if changed:
            raise BaseModelError(
                f"{changed[0]} is not the file that was built; delete the folder {folder}, and it "
                "is built again"
            )
        return self.start(folder, self.threads or use_cores())


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
    from warmstart.models.hf_calls import one_line
    from warmstart.models.peft.prompts import is_prompted
    from warmstart.models.saved import saved_model

    model: Any = saved_model(folder)
    if hasattr(model, "merge_and_unload") and not is_prompted(model):
        with contextlib.suppress(Exception):  # adapters that stand beside the weights stay there
            model = model.merge_and_unload()
    if model.config.pad_token_id is None:
        model.config.pad_token_id = pad_id
    model.requires_grad_(False).eval()
    forward = Forward(model, task.forward(model).readout)
    typed = (getattr(model.config, "type_vocab_size", 0) or 0) > 1

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, lengths: Any, types: Any = None) -> Any:
            return forward.logits(ids, lengths, training=False, types=types)

    tried = [(batch, _answer(forward, batch)) for batch in _batches(model, pad_id, typed)]
    first = tried[0][0]
    inputs = tuple(torch.from_numpy(v) for v in (first.ids, first.lengths, first.types)
                   if v is not None)  # fmt: skip
    both, rows = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC}
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    kind = model.config.model_type
    with one_line(f"torch cannot export this '{kind}' model; take engine torch"), _silence():
        program = torch.onnx.export(
            Graph().eval(), inputs, dynamo=True, verbose=False, input_names=INPUTS[: len(inputs)],
            output_names=["outputs"], dynamic_shapes=(both, rows, both)[: len(inputs)],
        )  # fmt: skip
        assert program is not None
        program.save(str(graph), external_data=size > LARGEST)
    return tried


def fingerprint_of(folder: Path) -> str:
    """What a form is made of: the sums of a folder's weights, its config and its tokenizer's."""
    files = [*sorted(folder.glob("*.safetensors")), config_file(folder)]
    return weights_sha256({path: file_sha256(path) for path in files})


def fits(form: Path, source: str) -> bool:
    """Whether a form was made of these weights; one that cannot be read was not."""
    try:
        return read_json(form / MANIFEST).get("source") == source
    except (OSError, ValueError, AttributeError):
        return False


def require(engine: str, libraries: tuple[str, ...]) -> None:
    """Raise `RecipeError` where a library is not installed."""
    for name in libraries:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise RecipeError(
                f"engine {engine} needs {name}, which is not installed: pip install "
                f"'warmstart[{engine}]'"
            ) from error


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


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What the exporter prints about libraries that are not there, and its progress."""
    from warmstart.models.hf_calls import quiet

    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
