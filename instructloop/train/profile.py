"""A trace of a few training steps for who looks for the slow part; no result and no id depends on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

WANTED = "INSTRUCTLOOP_PROFILE"
"""The environment variable of `--profile`, which workers inherit: the file that hears which folders were written."""
FOLDER = "profile"  # in the run's folder, beside its outputs
TRACE, TABLE = "trace.json.gz", "operators.txt"
NUM_OPERATORS = 15
PATIENCE, LENGTH = 2, 3  # steps before the recording and within, at least


@contextmanager
def profiled(run_folder: Path, *, num_steps: int, unit: int) -> Generator[Callable[[], None]]:
    """Yield what is to be called after each step; writes a trace and a table of operators where they are wanted.

    The first `unit` steps (2 at least) only warm up, unless there are no more; the next `unit` (3 at least) are
    recorded with what comes between them: of PPO, whose unit is an iteration, one rollout and the steps it feeds.
    """
    if not os.environ.get(WANTED):
        yield lambda: None
        return
    begin = max(unit, PATIENCE)
    recording = _Recording(run_folder / FOLDER, begin if begin < num_steps else 0, max(unit, LENGTH))
    try:
        yield recording.stepped
    finally:
        recording.end()


class _Recording:
    """Records steps from `begin` on, `length` of them or as many as come."""

    def __init__(self, folder: Path, begin: int, length: int):
        self.folder, self.begin, self.length = folder, begin, length
        self.num_steps = 0
        self.profiler: profile | None = None
        self._start_if_due()

    def stepped(self) -> None:
        self.num_steps += 1
        if self.num_steps == self.begin + self.length:
            self.end()
        else:
            self._start_if_due()

    def _start_if_due(self) -> None:
        if self.num_steps == self.begin:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self.profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
            self.profiler.start()

    def end(self) -> None:
        """Write what was recorded, once."""
        if self.profiler is None:
            return
        profiler, self.profiler = self.profiler, None
        profiler.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.folder / TRACE))
        order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=NUM_OPERATORS, max_name_column_width=40)
        (self.folder / TABLE).write_text(table, encoding="utf-8")
        with open(os.environ[WANTED], "a", encoding="utf-8") as heard:
            heard.write(f"{self.folder.resolve()}\n")
