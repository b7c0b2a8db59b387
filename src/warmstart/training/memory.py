"""Whether freed memory stays in the process: while weights move it does, before and after not.

glibc hands blocks above a threshold straight back to the kernel; a training step asks for the
same big blocks again at once and pays for every page. Keeping them is worth a fifth of the time on
a CPU. Where tables are read and judged it costs memory instead: what grows leaves holes behind, and
left to itself glibc keeps ever more of it. There is one heap: a heap for each thread would keep
what reading the data once needed, and never use it again. Elsewhere (musl, macOS, Windows) there is
nothing to do.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
USUAL = 1 << 17  # bytes: glibc's own threshold for both
LARGE = 1 << 20  # bytes: the mmap threshold while data are read
LARGEST = 1 << 25  # bytes: the largest mmap threshold


def small_heap() -> bool:
    """Before the data are read: one heap for all threads, without large blocks, whose free end
    goes back; returns whether the C library took it."""
    return _set({M_ARENA_MAX: 1, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: USUAL})


def keep_freed_memory() -> bool:
    """Before training; returns whether the C library took it."""
    return _set({M_MMAP_THRESHOLD: LARGEST, M_TRIM_THRESHOLD: (1 << 31) - 1})


def give_back_memory() -> bool:
    """After training: hand the kernel what lies free, and keep no more; returns whether the C
    library took it."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    return _set({M_MMAP_THRESHOLD: USUAL, M_TRIM_THRESHOLD: USUAL}) and trim()


def trim() -> bool:
    """Hand the kernel what lies free; returns whether there is a C library that can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return False
    return True


def _set(wanted: dict[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    taken = [mallopt(name, value) for name, value in wanted.items()]
    return all(taken)
