"""Keep freed memory in the process, so that a step faults no page in twice.

glibc hands blocks above a threshold straight back to the kernel; a training step asks for the
same big blocks again at once and pays for every page. Raising the thresholds once is worth a
fifth of the time on a CPU. What is kept should then serve everybody, so there is one heap: a heap
for each thread would keep what reading the data once needed, and never use it again. Elsewhere
(musl, macOS, Windows) there is nothing to do.
"""

from __future__ import annotations

import ctypes
import ctypes.util

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
LARGEST_MMAP_THRESHOLD = 1 << 25


def keep_freed_memory() -> bool:
    """Set the thresholds; returns whether the C library took them."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = {
        M_MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD,
        M_TRIM_THRESHOLD: (1 << 31) - 1,
        M_ARENA_MAX: 1,
    }
    taken = [mallopt(name, value) for name, value in wanted.items()]
    return all(taken)


def give_back_memory() -> None:
    """Hand the kernel what lies free: between reading, training and judging, not in a step."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
