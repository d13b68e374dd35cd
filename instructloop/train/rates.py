"""What the machine at hand does, measured in about two seconds: matrix products, copies, memory that is free."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

COPIED_BYTES = 2**27
SECONDS = 0.4  # of each measurement


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations a second of matrix products by dtype, bytes a second read and written by copying, bytes of memory."""

    device: str
    threads: int
    flops: dict[str, float]
    copied: float
    free_bytes: int
    process_bytes: int  # what this process has taken so far: Python, torch and transformers
    is_gpu: bool = False


def measure(rows: int, width: int, inner: int) -> Rates:
    """Return the rates, of products of `rows` tokens with a matrix of `width` times `inner`: a model's own."""
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_gpu else "cpu")
    flops: dict[str, float] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = torch.ones(rows, width, dtype=dtype, device=device), torch.ones(width, inner, dtype=dtype)
        right = right.to(device)
        flops[name] = 2 * rows * width * inner / _seconds(lambda left=left, right=right: left @ right)
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copied = 2 * COPIED_BYTES / _seconds(lambda: target.copy_(source))
    free = torch.cuda.mem_get_info()[0] if is_gpu else free_memory()
    taken = 0 if is_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - 2 * COPIED_BYTES
    where = torch.cuda.get_device_name() if is_gpu else "the processor"
    return Rates(where, torch.get_num_threads(), flops, copied, free, taken, is_gpu)


def free_memory() -> int:
    """Return the bytes that a process may still take: what Linux calls available, or what its container leaves."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and (most := limit.read_text(encoding="utf-8").strip()) != "max":
        free = min(free, int(most) - int(used.read_text(encoding="utf-8")))
    return free


def _seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one call: the fastest tenth of as many as fit into the time, one before to warm up."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    end = time.monotonic() + SECONDS
    times = [once()]
    while time.monotonic() < end:
        times.append(once())
    return sorted(times)[len(times) // 10]
