"""One go of the command in a process group of its own: which steps are at work, and its end, by itself or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[2]
REAL = ("instructloop",)
EAGER = ("tests.torture.command",)  # the same with a checkpoint wherever there can be one


@dataclass
class Go:
    """A process of the command at work; `began` and `ended` hold seconds since its start by step."""

    process: subprocess.Popen[str]
    started: float
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    reader: Thread | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def at_work(self) -> list[str]:
        """Return the steps that began and did not end."""
        return [name for name in self.began if name not in self.ended]

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def read(self) -> None:
        """Follow what the command prints, to its end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            name, _, rest = line.strip().partition(": ")
            if rest == "begins":
                self.began[name] = self.seconds
            elif rest.startswith(("done in ", "failed after ", "stopped after ")):
                self.ended[name] = self.seconds

    def kill(self) -> None:
        """Kill every process of the group at once, as a power cut would, and wait until none is left."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.wait()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # workers are nobody's children now; whoever adopts them reaps them
            try:
                os.killpg(self.process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.005)

    def wait(self) -> int:
        """Wait for the end and for the last line; return the exit code."""
        code = self.process.wait()
        assert self.reader is not None
        self.reader.join(timeout=10)
        return code


def begin(workspace: Path, command: tuple[str, ...] = EAGER) -> Go:
    """Start `instructloop run` on a workspace; what it prints, errors among it, is read as it comes."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "run", "--dir", str(workspace.absolute())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    go = Go(process, time.monotonic())
    go.reader = Thread(target=go.read, daemon=True)
    go.reader.start()
    return go
