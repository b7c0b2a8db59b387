"""Keep freed memory in the process, so that a step faults no page in twice.

glibc hands blocks above a threshold straight back to the kernel; a training step asks for the
same big blocks again at once and pays for every page. Raising the thresholds once is worth a
fifth of the time on a CPU. Elsewhere (musl, macOS, Windows) there is nothing to do.
"""

from __future__ import annotations

import ctypes
import ctypes.util

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 1 << 25


def keep_freed_memory() -> bool:
    """Set the thresholds; returns whether the C library took them."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    taken = mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    return bool(taken and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
