"""How much arithmetic a training step needs, and how fast the machine multiplies."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable

import torch

from _common import base_model

Shape = tuple[int, int, int]


def step_flops(lengths: Iterable[int], *, first_only: bool = False) -> float:
    """Floating-point operations that one step over rows of these lengths needs.

    6 for each weight of a matrix and token (2 forward, 4 backward; Kaplan et al. 2020, section
    2.1), and 12 n² H a layer for the two products of attention over n tokens. Padding, norms,
    softmax and the embedding's sums count nothing.

    Args:
        first_only: the last layer computes its queries, output and feed-forward part for the first
            token alone, which gives the same logits and the same gradients.
    """
    config = json.loads((base_model() / "config.json").read_text(encoding="utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    layers = config["num_hidden_layers"]
    square, wide = width * width, 2 * width * inner
    total = 0.0
    for n in lengths:
        whole = 6 * n * (4 * square + wide) + 12 * n * n * width
        last = 6 * (2 * n * square + 2 * square + wide) + 12 * n * width
        total += layers * whole + (last - whole if first_only else 0) + 6 * square  # and the pooler
    return total


def model_shapes(tokens: int) -> dict[str, Shape]:
    """The matrix products of a layer as (rows, inner, columns)."""
    config = json.loads((base_model() / "config.json").read_text(encoding="utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    return {
        "query, key, value": (tokens, width, 3 * width),
        "attention output": (tokens, width, width),
        "up": (tokens, width, inner),
        "down": (tokens, inner, width),
        "gradient of up": (inner, tokens, width),
        "gradient of down": (width, tokens, inner),
    }


def gflops(shape: Shape, dtype: torch.dtype, seconds: float) -> tuple[float, float]:
    """Best and median rate of A B, in units of 10⁹ operations a second, tried for `seconds`."""
    rows, inner, columns = shape
    a, b = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype)
    times = _times(lambda: torch.mm(a, b, out=out), seconds)
    work = 2e-9 * rows * inner * columns
    return work / min(times), work / statistics.median(times)


def _times(action: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(3):
        action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return times
