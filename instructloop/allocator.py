"""What glibc does with freed memory: it is kept for the next tensor instead of being given back each time."""

from __future__ import annotations

import ctypes
import os
import sys

SETTINGS = {  # environment variable, read when a process starts -> its value; mallopt's number and value (malloc.h)
    "MALLOC_TRIM_THRESHOLD_": (2**62, -1, -1),  # what is free at the end of the heap stays however much it is
    "MALLOC_MMAP_MAX_": (0, -4, 0),  # tensors of any size lie in the heap: a threshold would end at 32 MiB
}


def keep_freed_memory() -> bool:
    """Let this process and its workers keep freed memory; what the environment says already stays. False: not glibc.

    Without it the tensors of each step are mapped, filled with zeros by the kernel and unmapped again.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    for name, (for_workers, number, value) in SETTINGS.items():
        os.environ[name] = str(for_workers)
        mallopt(number, value)
    return True
