"""Energy from the counters that hardware has: RAPL of a processor, NVML of a GPU. Never a guess.

RAPL: Linux counts microjoules of each processor package in /sys/class/powercap (Khan et al. 2018);
most systems let only root read them. NVML: an NVIDIA GPU since Volta counts millijoules.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of microjoules that begins anew at `limit` (None: it does not)."""

    read: Callable[[], int | None]
    limit: int | None = None


class Energy:
    """Adds up counters between `begin` and the last `look`. Look often: a counter may begin anew.

    `note` says what is counted, or why nothing is.
    """

    def __init__(self, counters: Sequence[Counter], note: str) -> None:
        self.counters, self.note = counters, note
        self._last: list[int | None] = []
        self._sum: float | None = None

    @property
    def joules(self) -> float | None:
        """What was counted; None where there is no counter, or one could not be read."""
        return self._sum

    def begin(self) -> None:
        """Begin to count."""
        self._last = [counter.read() for counter in self.counters]
        self._sum = 0.0 if self.counters and None not in self._last else None

    def look(self) -> None:
        """Add what was used since the last look."""
        now = [counter.read() for counter in self.counters]
        if self._sum is None or None in now:
            self._sum = None
            return
        for counter, before, after in zip(self.counters, self._last, now, strict=True):
            assert before is not None and after is not None
            used = after - before
            self._sum += (used if used >= 0 else used + (counter.limit or 0)) / 1e6
        self._last = now


def energy_of(device: str, powercap: Path = POWERCAP) -> Energy:
    """The counters of where the training runs."""
    if device == "cuda":
        found = _nvidia()
        if found is None:
            return Energy((), "energy is not measured: the NVIDIA driver tells no energy counter")
        return Energy([found], "energy: the whole GPU, by its own counter, from loading to the end")
    if device != "cpu":
        return Energy((), f"energy is not measured: no counter of a device '{device}' is known")
    packages = [_rapl(folder) for folder in _domains(powercap)]
    if not packages:
        return Energy((), f"energy is not measured: there is no counter in {powercap}")
    if any(counter.read() is None for counter in packages):
        return Energy((), f"energy is not measured: the counters in {powercap} may not be read")
    return Energy(
        packages, "energy: the whole processor, by its own counters (RAPL), from loading to the end"
    )


def _domains(powercap: Path) -> list[Path]:
    """The packages, and memory where it is counted by itself."""
    folders = sorted(powercap.glob("intel-rapl:*"))
    return [folder for folder in folders if _text(folder / "name").startswith(("package", "dram"))]


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
    import torch

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
