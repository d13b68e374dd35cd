"""Processes that take turns at a workload, for arms that cannot share one: each is set up once, then asked to run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measuring import REPEATS, ROOT, Times, alternating

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "GOMP_SPINCOUNT": "20000"}
"""For every side: without the last a moment of other work on the machine slows an idle-waiting OpenMP tenfold."""


class Worker:
    """A process that speaks as `turns.Turns` does."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None):
        self.command = [str(word) for word in command]
        self.facts: list[dict[str, Any]] = []  # of every turn, warm-ups too
        self.peak_bytes = 0
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=kept | ENVIRONMENT | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def turn(self) -> float:
        """Let it work once; return its seconds. ValueError with what it said if it has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace")[-3000:]
            raise ValueError(f"{' '.join(self.command[1:])} ended with {self.process.wait()}: {said}")
        self.facts.append(json.loads(line))
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        self.peak_bytes = next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        return self.facts[-1]["seconds"]

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.errors.close()


def compare(
    commands: Mapping[str, Sequence[str | Path]], *, repeats: int = REPEATS, warm_ups: int = 1
) -> tuple[dict[str, Times], dict[str, dict[str, Any]]]:
    """Run arms in turns; return their times, and for each a record with medians of whatever facts it told."""
    workers = dict[str, Worker]()
    try:
        for name, command in commands.items():
            workers[name] = Worker(command)
        times = alternating({name: one.turn for name, one in workers.items()}, repeats=repeats, warm_ups=warm_ups)
    finally:
        for worker in workers.values():
            worker.close()
    records = {
        name: times[name].record() | _facts(worker.facts[warm_ups:]) | {"peak_mebibytes": worker.peak_bytes >> 20}
        for name, worker in workers.items()
    }
    return times, records


def _facts(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each number that every turn told, beside its seconds."""
    names = [name for name in told[0] if name != "seconds"]
    return {name: round(median(one[name] for one in told), 5) for name in names}
