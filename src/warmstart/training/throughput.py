"""How much of what the machine can do a language model's training uses."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from warmstart.models.architectures import family_of, layers_of, width_of
from warmstart.models.head_layers import unwrap

TRIES = 5
SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices by which the peak is measured."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed for a token, in floating-point operations (Chowdhery et al. 2022, appendix
    B): 2 for each weight that multiplies it, forward; as many backward to its inputs; and as many
    to those weights that are trained. Attention computes 4 x layers x width for each token of the
    row, forward, and twice that backward. What is computed twice to save memory does not count.

    Args:
        body: weights that multiply every token.
        head: those that multiply the tokens that are predicted.
        attention: layers x width.
        trained: the share of the weights that are trained.
        peak: operations a second, of a product of large matrices on this machine.
    """

    body: int
    head: int
    attention: int
    trained: float
    peak: float

    @classmethod
    def of(cls, model: Any, dtype: torch.dtype, device: torch.device) -> Work | None:
        """Of a model in training; None of an encoder-decoder, whose halves read apart."""
        inner = unwrap(model)
        if family_of(inner.config).kind == "encoder-decoder":
            return None
        parameters = {id(p): p for p in model.parameters()}
        tables = {id(p) for module in inner.modules() if isinstance(module, torch.nn.Embedding)
                  for p in module.parameters()}  # fmt: skip
        output: Any = inner.get_output_embeddings()
        head = 0 if output is None else int(output.weight.numel())
        apart = tables | (set[int]() if output is None else {id(output.weight)})
        layers = layers_of(inner)
        deep = int(getattr(inner.config, "num_hidden_layers", len(layers)))
        again = max(deep // max(len(layers), 1), 1) - 1  # ALBERT's one layer is read many times
        shared = {id(p) for layer in layers for p in layer.parameters()} if again else set[int]()
        body = sum(p.numel() * (1 + again * (key in shared)) for key, p in parameters.items()
                   if key not in apart and p.ndim > 1)  # fmt: skip
        whole = sum(p.numel() for p in parameters.values())
        trained = sum(p.numel() for p in parameters.values() if p.requires_grad) / max(whole, 1)
        attention = len(layers) * (1 + again) * width_of(inner.config.to_dict())
        return cls(body, head, attention, trained, peak_of(dtype, device))

    def operations(self, tokens: float, predicted: float, rows: float) -> float:
        """Of so many tokens in so many rows, of which so many are predicted."""
        weights = 2 * (2 + self.trained) * (self.body * tokens + self.head * predicted)
        return weights + 12 * self.attention * tokens * tokens / max(rows, 1)

    def share(self, tokens: float, predicted: float, rows: float, seconds: float) -> float:
        """Of the peak, in so many seconds."""
        return self.operations(tokens, predicted, rows) / max(seconds, 1e-9) / self.peak


def peak_of(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a product of two large square matrices, the best of some tries."""
    side, best = SIDE.get(device.type, 1024), 0.0
    a, b = (torch.randn(side, side, dtype=torch.float32).to(device, dtype) for _ in range(2))
    out = a @ b
    for _ in range(TRIES):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best
