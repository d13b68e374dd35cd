"""What glibc does with freed memory: it is kept for the next tensor instead of being given back each time."""

from __future__ import annotations

import ctypes
import os
import sys

KEPT_BYTES = 2**30  # what may lie free at the end of the heap before it goes back to the system
SETTINGS = {  # environment variable, read when a process starts -> mallopt's number for it (malloc.h), value
    "MALLOC_TRIM_THRESHOLD_": (-1, KEPT_BYTES),
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**25),  # 32 MiB, the most it takes
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
    for name, (number, value) in SETTINGS.items():
        os.environ[name] = str(value)
        mallopt(number, value)
    return True
