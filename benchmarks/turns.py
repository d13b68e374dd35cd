"""What both sides of a comparison speak: a line in starts one run of the work, a line out says what it took.

Imports nothing that one of the sides lacks.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def read(folder: Path) -> tuple[dict[str, Any], Any]:
    """Return a workload's settings and rows from the folder where they were written."""
    return json.loads((folder / "workload.json").read_text()), json.loads((folder / "rows.json").read_text())


class Turns:
    """The side of the one that works: `begin` waits for its turn, `end` tells the seconds since and what is given."""

    def __init__(self) -> None:
        self.heard, self.told = sys.stdin, sys.stdout
        sys.stdout = sys.stderr  # what libraries print is no answer
        self.started = self.cpu_started = 0.0

    def begin(self) -> None:
        """Wait for a line; at the end of the input the process ends."""
        if not self.heard.readline():
            raise SystemExit(0)
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def end(self, **facts: Any) -> None:
        """Say how long the turn took, and the processor's seconds in it, of all threads."""
        seconds, cpu_seconds = time.perf_counter() - self.started, time.process_time() - self.cpu_started
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **facts}), file=self.told, flush=True)
