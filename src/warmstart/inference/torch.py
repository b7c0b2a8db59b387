"""PyTorch on this machine: the saved folder itself, computed in float32 unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from warmstart.inference.engine import Engine, Runner, TokenBatch

if TYPE_CHECKING:
    from warmstart.data.tokens.dataset import TokenizedDataset
    from warmstart.models.generation import GenerationOutput, TokenScores
    from warmstart.models.sampling import Completion, Sampling
    from warmstart.tasks.base import Task


class Torch(Engine):
    """Answers with torch."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: cuda if there is one"
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="fp32", description="fp32 answers exactly as transformers does"
    )

    @property
    def batch_tolerance(self) -> float | None:
        return 1e-5 if self.precision == "fp32" else 0.05

    def open(self, folder: Path, task: Task, pad_id: int) -> TorchRunner:
        return TorchRunner(self, folder, task, pad_id)


class TorchRunner(Runner):
    """The model in memory, as it computes in training."""

    def __init__(self, engine: Torch, folder: Path, task: Task, pad_id: int) -> None:
        from warmstart.models.saved import saved_model
        from warmstart.training.datasets import CACHED_TOKENS
        from warmstart.training.memory import trim
        from warmstart.training.precision import choose, device_named, use_cores

        self.folder, self.task = folder, task
        self.model: Any = saved_model(folder)
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = pad_id
        self.model.requires_grad_(False)
        self.pad_id, device = pad_id, device_named(engine.device)
        use_cores()
        self.forward = task.forward(self.model)
        self.forward.prepare(choose(engine.precision, device), device, checkpointing=False)
        if device.type == "cpu":
            self.batch_tokens = CACHED_TOKENS
        trim()  # what loading left free has other sizes than answers need

    def run(self, batch: TokenBatch) -> np.ndarray:
        import torch

        def send(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(self.forward.device, non_blocking=True)

        types = None if batch.types is None else send(batch.types)
        ids, lengths = send(batch.ids), send(batch.lengths)
        with torch.no_grad():
            return self.forward.logits(ids, lengths, training=False, types=types).cpu().numpy()

    def generate(self, prompts: TokenizedDataset) -> tuple[list[list[int]], np.ndarray]:
        output = self._compute_texts(replace(prompts, answers=None))
        return [ids or [] for ids in output.ids], output.confidence

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling],
        *,
        tokenizer: Any = None,
        **how: Any,
    ) -> list[Completion]:
        from warmstart.models.sampling import generate

        self.model.to(self.forward.dtype)  # once, and not in every step
        return generate(self.model, prompts, sampling, tokenizer=tokenizer, **how)

    def log_probs(self, dataset: TokenizedDataset) -> TokenScores:
        if dataset.answers is not None and dataset.answers.answers is not None:  # two to compare
            from warmstart.training.pairs import PairRows

            return PairRows(dataset, self.forward, self.pad_id).predict(self.forward)
        if dataset.answers is not None:
            return self._compute_texts(dataset, writes=0)
        if dataset.by_token:
            from warmstart.training.datasets import HiddenTokens

            return HiddenTokens(dataset, self.pad_id, self.forward.device).predict(self.forward)
        return self._windows(dataset)

    def _windows(self, dataset: TokenizedDataset) -> TokenScores:
        from warmstart.models.architectures import family_of
        from warmstart.models.saved import saved_tokenizer
        from warmstart.objectives.language import objective_of
        from warmstart.training.datasets import LanguageRows

        model, kind = self.model, family_of(self.model.config).kind
        tokenizer = saved_tokenizer(self.folder)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(self.pad_id)
        objective = objective_of(self.task, kind, model, tokenizer)
        objective.attach(model, self.folder.parent)
        rows = LanguageRows(dataset, self.pad_id, self.forward.device, objective)
        return rows.predict(self.forward)

    def _compute_texts(
        self, dataset: TokenizedDataset, writes: int | None = None
    ) -> GenerationOutput:
        from warmstart.training.datasets import WrittenRows

        forward = self.forward
        rows = WrittenRows(dataset, forward.language, self.pad_id, forward.device, writes=writes)
        return rows.predict(forward)
