"""How everything here is measured: machine and versions, its rates, alternating arms, peak memory, dated results.

Seconds are wall-clock. What is compared runs in turns, so that a machine that slows down slows every arm down.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
REPEATS = 5
MATRIX_SIDE = 2048  # of the square matrices whose product gives the rate
COPY_BYTES = 2**29  # far more than a processor's caches hold


def machine() -> dict[str, Any]:
    """Return what figures depend on beside the code; nothing here names the machine."""
    model = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ": unknown")
    return {
        "processor": model.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gibibytes": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def versions(packages: Sequence[str] = ("torch", "transformers")) -> dict[str, str]:
    """Return the versions of `packages` and of this checkout: package version, commit, `+` where files differ."""
    return {name: version(name) for name in packages} | {"instructloop": f"{version('instructloop')} {commit()}"}


def commit() -> str:
    """Return the short commit of this checkout, with `+` where tracked files differ from it; "" outside of git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "--short", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs")
    return f"{name}+" if name and changed else name


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine can do at best with the threads that torch has now: the bounds of everything else."""

    threads: int
    gigaflops_float32: float  # of a large matrix product, 2 n^3 operations
    gigaflops_bfloat16: float
    copy_gigabytes: float  # per second, bytes read plus bytes written

    def gigaflops(self, dtype: str) -> float:
        """Return the matrix rate of "float32" or "bfloat16"."""
        return {"float32": self.gigaflops_float32, "bfloat16": self.gigaflops_bfloat16}[dtype]


def rates(device: str = "cpu", *, side: int = MATRIX_SIDE, num_bytes: int = COPY_BYTES) -> Rates:
    """Measure the rates: medians of several products and copies, after one of each to warm up."""
    import torch

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    def seconds(work: Callable[[], Any]) -> float:
        times = list[float]()
        for _ in range(6):
            wait()
            started = time.perf_counter()
            work()
            wait()
            times.append(time.perf_counter() - started)
        return median(times[1:])

    gigaflops = dict[str, float]()
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
        out = torch.empty_like(left)
        gigaflops[name] = 2 * side**3 / seconds(lambda left=left, right=right, out=out: torch.mm(left, right, out=out))
    source, target = (torch.zeros(num_bytes, dtype=torch.uint8, device=device) for _ in range(2))
    copied = 2 * num_bytes / seconds(lambda: target.copy_(source))
    return Rates(
        torch.get_num_threads(),
        round(gigaflops["float32"] / 1e9, 1),
        round(gigaflops["bfloat16"] / 1e9, 1),
        round(copied / 1e9, 1),
    )


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds of one arm, in the order in which it ran."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)

    def record(self) -> dict[str, Any]:
        """Return the summary that results keep."""
        digits = {"median": self.median, "min": min(self.seconds), "max": max(self.seconds)}
        return {name: round(value, 5) for name, value in digits.items()} | {
            "repeats": len(self.seconds),
            "seconds": [round(value, 5) for value in self.seconds],
        }


Arm = Callable[[], float | None]
"""Does the work once. What it returns are its seconds; None: the whole call counts."""


def alternating(arms: Mapping[str, Arm], *, repeats: int = REPEATS, warm_ups: int = 1) -> dict[str, Times]:
    """Return each arm's times; the arms run in turns, every second round in the opposite order."""
    if repeats < 1:
        raise ValueError(f"repeats {repeats} must be at least 1")
    found: dict[str, list[float]] = {name: [] for name in arms}
    names = list(arms)
    for turn in range(-warm_ups, repeats):
        for name in names if turn % 2 == 0 else reversed(names):
            started = time.perf_counter()
            given = arms[name]()
            seconds = time.perf_counter() - started if given is None else given
            if turn >= 0:
                found[name].append(seconds)
    return {name: Times(tuple(seconds)) for name, seconds in found.items()}


def ratio(slow: Times, fast: Times) -> dict[str, float]:
    """Return how many times as fast `fast` is: of the medians, and the least and most over the rounds."""
    turns = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return {"median": round(slow.median / fast.median, 2), "min": round(min(turns), 2), "max": round(max(turns), 2)}


def peak_bytes(command: Sequence[str], *, cwd: Path = ROOT) -> int:
    """Run a command to its end and return the most memory that it had resident; ValueError if it fails.

    The kernel's high-water mark of the process, read until it ends: `getrusage` would count this process too, as it
    was when it forked.
    """
    peak = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=errors) as process,
    ):
        while process.poll() is None:
            marks = [line.split()[1] for line in _lines(f"/proc/{process.pid}/status") if line.startswith("VmHWM")]
            peak = max([peak, *(1024 * int(mark) for mark in marks)])
            time.sleep(0.01)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode()[-2000:]
            raise ValueError(f"{' '.join(command)} ended with {process.returncode}: {said}")
    return peak


def result(found: Any, *, beside: str = "", **more: Any) -> dict[str, Any]:
    """Return what was found with what it depends on; `beside` says what else the machine was doing."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"date": when, "machine": machine(), "versions": versions(), "beside": beside}
    return head | more | {"found": found}


def write(name: str, content: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write `content`, which has a date, as JSON under a name with its date and minute; return the file."""
    when = datetime.fromisoformat(content["date"])
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}-{when:%Y-%m-%d-%H%M}.json"
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def latest(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """Return the newest result under this name, None where there is none."""
    digits = "[0-9]" * 4
    files = sorted(folder.glob(f"{name}-{digits}-[0-9][0-9]-[0-9][0-9]-{digits}.json"))
    return json.loads(files[-1].read_text()) if files else None
