"""What a training run costs: the most memory it held, and the energy that it took."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from pathlib import Path
from typing import Any

from warmstart.train.fit import Listener
from warmstart.train.loop import Step
from warmstart.verbs.energy import energy_of

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
EVERY = 20.0  # seconds between looks at the energy counter, which begins anew when it is full


class Meter(Listener):
    """Listens to one run at a time: `begin` before it, `facts` after it.

    Memory is what is held at most (resident size; on a GPU the tensors there) between `begin` and
    the end of the last epoch, less what was held at `begin`: the model and its training, without
    the program and the data that all runs share. Freed memory is given back first and the peak that
    Linux remembers is set back, so that one run does not answer for the one before it; some tens
    of MiB are left to chance.
    """

    def __init__(self, device: str) -> None:
        self.device, self.energy = device, energy_of(device)
        self._peak: float | None = None
        self._resets, self._held, self._looked = False, 0.0, 0.0

    @property
    def memory_note(self) -> str:
        """What the figure is, or why there is none."""
        if self.device == "cuda":
            return "peak memory: the tensors on the GPU, at their most while training"
        if _status("VmHWM") is None:
            return "peak memory is not measured: this system does not tell it (no /proc/self)"
        if not self._resets:
            return "peak memory is not measured: this system does not let a process set it back"
        return (
            "peak memory: what training took at its most, the model included, on top of the "
            "program and the data, which all runs share"
        )

    def begin(self) -> None:
        """Give back what can be given back, and begin to measure."""
        gc.collect()
        self._peak = None
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            self._resets = set_back()
            self._held = _status("VmRSS") or 0.0
        self.energy.begin()

    def step(self, step: Step, total: int) -> None:
        if time.monotonic() - self._looked > EVERY:
            self._looked = time.monotonic()
            self.energy.look()

    def epoch(self, row: dict[str, Any]) -> None:
        self.energy.look()
        if self.device == "cuda":
            import torch

            self._peak = torch.cuda.max_memory_allocated() / 2**20
        elif self._resets:
            peak = _status("VmHWM")
            self._peak = None if peak is None else max(0.0, peak - self._held)

    def facts(self) -> dict[str, float | None]:
        """Peak memory in MiB and energy in joules; None where it could not be measured."""
        joules = self.energy.joules
        return {
            "peak_memory_mb": None if self._peak is None else round(self._peak, 1),
            "energy_joules": None if joules is None else round(joules, 1),
        }


def set_back() -> bool:
    """Return freed memory to the system and set the peak to what is held now.

    Returns whether the system did so (Linux does, by writing 5 to /proc/self/clear_refs).
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # it is glibc that keeps memory
        ctypes.CDLL(None).malloc_trim(0)
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    peak, now = _status("VmHWM"), _status("VmRSS")
    return peak is not None and now is not None and peak <= 1.05 * now + 8


def _status(name: str) -> float | None:
    """A size from /proc/self/status in MiB."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) / 1024 if found else None
