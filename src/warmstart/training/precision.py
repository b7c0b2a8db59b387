"""Which number type to compute in, by measurement."""

from __future__ import annotations

import time

import torch

from warmstart.errors import RecipeError

SIZE, REPEATS, WORTH = 384, 20, 1.3


def choose(precision: str, device: torch.device) -> torch.dtype:
    """`bf16` or `fp32` as told; `auto` takes bf16 where products are at least 1.3 times faster."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    slow, fast = _seconds(torch.float32, torch.bfloat16)
    return torch.bfloat16 if slow > WORTH * fast else torch.float32


def device_named(name: str) -> torch.device:
    """The device of the recipe; `auto` takes CUDA where there is one. Raises `RecipeError`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("train.device is cuda, and torch finds none here; leave it at auto")
    return device


def _seconds(*dtypes: torch.dtype) -> list[float]:
    """The best time of one product in each type, taken in turns.

    On one thread, so that other work on the machine cannot decide it.
    """
    pairs = [(torch.ones(SIZE, SIZE, dtype=d), torch.ones(SIZE, SIZE, dtype=d)) for d in dtypes]
    best = [float("inf")] * len(pairs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(REPEATS):
            for index, (one, other) in enumerate(pairs):
                start = time.perf_counter()
                torch.mm(one, other)
                best[index] = min(best[index], time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best
