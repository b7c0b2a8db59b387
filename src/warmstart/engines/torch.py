"""PyTorch on this machine: the saved folder itself, computed in float32 unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from warmstart.engines.base import Engine
from warmstart.errors import RunError
from warmstart.models.weights import read_json
from warmstart.types import Prediction

if TYPE_CHECKING:
    import numpy as np

CHUNK = 4096
MOST_TOKENS = 1 << 16
OFFSET = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
"""Families that count positions from behind the padding token."""


class Torch(Engine):
    """Answers with torch."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: cuda if there is one"
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32", description="fp32 answers exactly as transformers does"
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

        _check(folder)
        self.model, self.tokenizer = load_saved(folder)
        config: Any = self.model.config
        longest = min(self.tokenizer.model_max_length, _positions(config))
        self.task = Classification(max_length=longest)
        self.labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.pad: Any = self.tokenizer.pad_token_id
        if config.pad_token_id is None:
            config.pad_token_id = self.pad
        device = device_named(engine.device)
        self.compute = compute_for(self.model)
        self.model.requires_grad_(False)
        self.compute.prepare(choose(engine.precision, device), device, checkpointing=False)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction a text, in order; ids count from 0."""
        found: list[Prediction] = []
        for _, logits in self.chunks(texts):
            found += self.decode(logits, len(found))
        return found

    def decode(self, logits: np.ndarray, start: int = 0) -> list[Prediction]:
        """Logits [n, K] as answers with the ids `start`, `start` + 1, …"""
        ids = [str(start + i) for i in range(len(logits))]
        return self.task.decode(logits, self.labels, ids)

    def best(self, logits: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The label of each row of logits [n, K], and its probability [n]."""
        from warmstart.tasks.classification import softmax

        scores = softmax(logits)
        return [self.labels[i] for i in scores.argmax(-1)], scores.max(-1)

    def chunks(
        self,
        texts: Iterable[str],
        on_cut: Callable[[int, int], None] | None = None,
        size: int = CHUNK,
    ) -> Iterator[tuple[list[str], np.ndarray]]:
        """Texts with their logits [n, K], `size` at a time; no more are held in memory.

        `on_cut(row, tokens)` is told of each text that was too long.
        """
        from warmstart.data.tokens import tokenise
        from warmstart.train.feed import TokenFeed

        rest, start = iter(texts), 0
        while part := list(islice(rest, size)):

            def cut(row: int, tokens: int, start: int = start) -> None:
                if on_cut is not None:
                    on_cut(start + row, tokens)

            backend = self.tokenizer.backend_tokenizer
            store = tokenise(part, backend, self.task.max_length, cut)
            yield part, TokenFeed(store, self.compute, self.pad, batch_size=1).predict()
            start += len(part)


def _check(folder: Path) -> None:
    """Raises `RunError` unless this is a model that gives one label to a text."""
    if (folder / "adapter_config.json").exists():
        return
    if not (folder / "config.json").exists():
        if (folder / "run.json").exists():
            raise RunError(
                f"the run {folder} has no model yet; go on with it: "
                f"warmstart tune --resume {folder}"
            )
        raise RunError(f"{folder} holds no model; give a run's folder or a model folder")
    config = read_json(folder / "config.json")
    names = config.get("architectures") or []
    if not any(str(name).endswith("ForSequenceClassification") for name in names):
        raise RunError(
            f"{folder} is a model without a classification head ({', '.join(map(str, names))}); "
            f"train one first: warmstart tune DATA --base {folder}"
        )
    if config.get("problem_type") in ("regression", "multi_label_classification"):
        raise RunError(f"{folder} does {config['problem_type']}, not one label for a text")


def _positions(config: Any) -> int:
    """The most tokens that the model's position embeddings allow."""
    known = getattr(config, "max_position_embeddings", None)
    if not isinstance(known, int) or known <= 0:
        return MOST_TOKENS
    pad = config.pad_token_id
    first = pad + 1 if config.model_type in OFFSET and pad is not None else 0
    return min(MOST_TOKENS, known - first)
