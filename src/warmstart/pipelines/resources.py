"""Energy from the counters that hardware has: RAPL of a processor, NVML of a GPU. Never a guess.

RAPL: Linux counts microjoules of each processor package in /sys/class/powercap (Khan et al. 2018);
most systems let only root read them. NVML: an NVIDIA GPU since Volta counts millijoules.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from warmstart.training.loop import Step
from warmstart.types import Listener

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of microjoules that begins anew at `limit` (None: it does not)."""

    read: Callable[[], int | None]
    limit: int | None = None


class Energy:
    """Adds up counters between `begin` and the last `look`. Look often: a counter may begin anew.

    `note` says what is counted, or why nothing is. `joules` is None where there is no counter, or
    one could not be read.
    """

    def __init__(self, counters: Sequence[Counter], note: str) -> None:
        self.counters, self.note = counters, note
        self._last: list[int | None] = []
        self.joules: float | None = None

    def begin(self) -> None:
        """Begin to count."""
        self._last = [counter.read() for counter in self.counters]
        self.joules = 0.0 if self.counters and None not in self._last else None

    def look(self) -> None:
        """Add what was used since the last look."""
        now = [counter.read() for counter in self.counters]
        if self.joules is None or None in now:
            self.joules = None
            return
        for counter, before, after in zip(self.counters, self._last, now, strict=True):
            assert before is not None and after is not None
            used = after - before
            self.joules += (used if used >= 0 else used + (counter.limit or 0)) / 1e6
        self._last = now


def energy_of(device: str, powercap: Path = POWERCAP) -> Energy:
    """The counters of where the training runs."""
    if device == "cuda":
        counter = _nvidia()
        if counter is None:
            return Energy((), "energy is not measured: the NVIDIA driver tells no energy counter")
        return Energy(
            [counter], "energy: the whole GPU, by its own counter, from loading to the end"
        )
    if device != "cpu":
        return Energy((), f"energy is not measured: no counter of a device '{device}' is known")
    packages = [  # and memory where it is counted by itself
        _rapl(folder)
        for folder in sorted(powercap.glob("intel-rapl:*"))
        if _text(folder / "name").startswith(("package", "dram"))
    ]
    if not packages:
        return Energy((), f"energy is not measured: there is no counter in {powercap}")
    if any(counter.read() is None for counter in packages):
        return Energy((), f"energy is not measured: the counters in {powercap} may not be read")
    return Energy(
        packages, "energy: the whole processor, by its own counters (RAPL), from loading to the end"
    )


def _rapl(folder: Path) -> Counter:
    limit = _text(folder / "max_energy_range_uj")

    def read() -> int | None:
        value = _text(folder / "energy_uj")
        return int(value) if value.isdecimal() else None

    return Counter(read, int(limit) if limit.isdecimal() else None)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _nvidia() -> Counter | None:
    """The counter of the GPU that torch uses."""
    uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    try:
        nvml: Any = ctypes.CDLL("libnvidia-ml.so.1")
        handle = ctypes.c_void_p()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(
            uuid.encode(), ctypes.byref(handle)
        ):
            return None
    except (OSError, AttributeError):
        return None

    def read() -> int | None:
        millijoules = ctypes.c_ulonglong()
        failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value * 1000

    return Counter(read) if read() is not None else None


# What a training run costs: the most memory it held, and the energy that it took.

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
        if status("VmHWM") is None:
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
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            self._resets = set_back()
            self._held = status("VmRSS") or 0.0
        self.energy.begin()

    def step(self, step: Step, total: int) -> None:
        if time.monotonic() - self._looked > EVERY:
            self._looked = time.monotonic()
            self.energy.look()

    def epoch(self, row: dict[str, Any]) -> None:
        self.energy.look()
        if self.device == "cuda":
            self._peak = torch.cuda.max_memory_allocated() / 2**20
        elif self._resets:
            peak = status("VmHWM")
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
    peak, now = status("VmHWM"), status("VmRSS")
    return peak is not None and now is not None and peak <= 1.05 * now + 8


def status(name: str) -> float | None:
    """A size from /proc/self/status in MiB."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(sizes[0]) / 1024 if sizes else None
