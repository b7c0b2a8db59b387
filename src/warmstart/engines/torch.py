"""PyTorch on this machine: the saved folder itself, computed in float32 unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.engines.base import Engine
from warmstart.errors import RunError
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np

CHUNK = 4096


class Torch(Engine):
    """Answers with torch."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if there is one")
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="fp32 answers exactly as transformers does"
    )

    def build(self, run: Path, out: Path) -> Path:
        """Nothing to build: the run's model folder is what torch reads."""
        return run / "model" if (run / "model").is_dir() else run

    def open(self, path: Path) -> TorchPredictor:
        """A predictor over a run or a model folder. Raises `RunError`, `BaseModelError`."""
        return TorchPredictor(self, self.build(path, path))


class TorchPredictor:
    """Labels with confidence for texts."""

    def __init__(self, engine: Torch, folder: Path) -> None:
        from warmstart.models.compute import compute_for
        from warmstart.models.saved import load_saved
        from warmstart.tasks.classification import Classification
        from warmstart.train.precision import choose, device_named

        if not (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
            raise RunError(f"{folder} holds no model; give a run's folder or a model folder")
        self.model, self.tokenizer = load_saved(folder)
        self.task = Classification(max_length=min(self.tokenizer.model_max_length, 1 << 16))
        config: Any = self.model.config
        self.labels = [config.id2label[i] for i in range(config.num_labels)]
        device = device_named(engine.device)
        self.compute = compute_for(self.model)
        self.model.requires_grad_(False)
        self.compute.prepare(choose(engine.precision, device), device, checkpointing=False)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction a text, in order; ids count from 0."""
        found: list[Prediction] = []
        for start, logits in self.logits(texts):
            ids = [str(start + i) for i in range(len(logits))]
            found += self.task.decode(logits, self.labels, ids)
        return found

    def logits(self, texts: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first row, logits [n, K]) for chunks of the texts."""
        from warmstart.data.tokens import tokenise
        from warmstart.train.feed import TokenFeed

        for start in range(0, len(texts), CHUNK):
            part = [str(text) for text in texts[start : start + CHUNK]]
            store = tokenise(part, self.tokenizer.backend_tokenizer, self.task.max_length)
            pad: Any = self.tokenizer.pad_token_id
            yield start, TokenFeed(store, self.compute, pad, batch_size=1).predict()
