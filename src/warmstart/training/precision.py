"""How to compute on this machine: in which number type, by measurement, where, and with how many
threads."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import torch

from warmstart.errors import RecipeError

SIZE, REPEATS, WORTH = 384, 20, 1.3
PLAIN_ATTENTION = 512
"""Tokens of a row up to which attention is computed plainly in 16 bits on a CPU."""


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


def attend_plainly(model: Any, longest: int, dtype: torch.dtype, device: torch.device) -> None:
    """Compute attention as products of matrices, which takes less time than torch's fused kernel
    does for short rows in 16 bits on a CPU (two thirds of a step at 64 tokens)."""
    if dtype == torch.float32 or device.type != "cpu" or longest > PLAIN_ATTENTION:
        return
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")


def use_cores(threads: int | None = None) -> int:
    """Compute with so many threads, or as many as there are cores that this process may use: those
    of its affinity, and no more than a container's quota. Returns their number.

    What was asked by `OMP_NUM_THREADS` or `torch.set_num_threads` is less, and stays.
    """
    allowed = torch.get_num_threads()
    if threads is None:
        quota = cpu_quota()
        threads = allowed if quota is None else min(allowed, max(1, math.ceil(quota)))
    if threads != allowed:
        torch.set_num_threads(threads)
    return threads


GROUPS, OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cpu_quota(root: Path = GROUPS, own: Path = OWN_GROUP) -> float | None:
    """The cores' worth of time that the control groups of this process leave it (Linux's cgroup v2
    and v1); None where they leave it all."""
    quotas: list[float] = []
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            base = root / controllers if controllers else root
            place = base / path.strip("/")
            for folder in (place, *place.parents):
                quotas += _quota_in(folder)
                if folder == base:
                    break
    return min(quotas, default=None)


def _quota_in(folder: Path) -> list[float]:
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return [] if quota == "max" else [int(quota) / int(period)]
    with contextlib.suppress(OSError, ValueError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return [quota / int((folder / "cpu.cfs_period_us").read_text())] if quota > 0 else []
    return []


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
