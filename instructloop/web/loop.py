"""The loop of the workspace, driven by its command in a process of its own: the app loads no torch, trains nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from instructloop.files import owner
from instructloop.store.rows import TaskKind

LOG = "loop-from-the-app.log"
LINES_SHOWN = 12
BYTES_READ = 16_384
LOOKING_SECONDS = 300
NICENESS = 10  # people's pages come first on the cores that they share
STOPPED = 130


class Opening(BaseModel):
    """The tasks that a step would open; how many is None while the steps before it are not done."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: str
    kind: TaskKind
    cohort: str
    num_tasks: int | None
    num_judgements: int | None


class Ahead(BaseModel):
    """What the loop would do next, as `instructloop status --json` says it; see `stages/ahead.py`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    round: int
    opening: Opening | None
    steps: tuple[str, ...]
    frozen: tuple[str, ...]
    waits_for: dict[str, str]

    @property
    def until(self) -> str | None:
        """The step to which the loop goes; None: to the end of the round."""
        return self.opening.step if self.opening else None


@dataclass(frozen=True, slots=True)
class Going:
    """A run that this app has begun; `code` None: it is at work."""

    until: str | None
    by: str
    began: datetime
    code: int | None = None

    @property
    def state(self) -> str:
        """running, done, stopped or failed."""
        if self.code is None:
            return "running"
        return {0: "done", STOPPED: "stopped"}.get(self.code, "failed")


class Loop:
    """Looks ahead, goes on and stops by `command`, as one types `instructloop`; one run at a time."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.folder = folder
        self.going: Going | None = None
        self._command = tuple(command)
        self._lock = threading.Lock()
        self._seen: tuple[str, Ahead | str] | None = None  # the state that was looked at, and what was found
        self._looking: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def changed(self) -> str:
        """Return a text that is another one whenever runs or loop.yaml are others than before."""
        times = [path.stat().st_mtime_ns for path in sorted(self.folder.glob("runs/*/manifest.json"))]
        return json.dumps([(self.folder / "loop.yaml").stat().st_mtime_ns, times])

    def look(self, state: str) -> Ahead | str | None:
        """Return what is ahead in this state, in words why that cannot be said, or None: it is being looked at."""
        with self._lock:
            if self._seen is not None and self._seen[0] == state:
                return self._seen[1]
            if self._looking is None:
                self._looking = state
                threading.Thread(target=self._look, args=(state,), name="look", daemon=True).start()
        return None

    def _look(self, state: str) -> None:
        arguments = [*self._command, "status", "--json", "--dir", str(self.folder)]
        found: Ahead | str
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=LOOKING_SECONDS, check=False)
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            found = said[-1] if done.returncode else Ahead.model_validate(json.loads(done.stdout)["ahead"])
        except (OSError, subprocess.TimeoutExpired, ValidationError, ValueError, KeyError) as error:
            found = f"instructloop status --json: {error}"
        with self._lock:
            self._seen, self._looking = (state, found), None

    def elsewhere(self) -> int | None:
        """Return the process that drives the loop now, from a terminal say; None when none does, or we do."""
        pid = owner(self.folder / "cache")
        return None if self._process is not None and pid == self._process.pid else pid

    def go_on(self, until: str | None, *, by: str, began: datetime, then: Callable[[Going], None]) -> bool:
        """Begin to do all up to the step `until`, and call `then` at its end; False while a run is at work."""
        with self._lock:
            if (self._process is not None and self._process.poll() is None) or self.elsewhere() is not None:
                return False
            arguments = [*self._command, "run", "--dir", str(self.folder), *(["--until", until] if until else [])]
            with self.log.open("wb") as log:
                process = subprocess.Popen(
                    arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            with suppress(OSError):  # over already
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            self._process, self.going = process, Going(until, by, began)
        threading.Thread(target=self._wait, args=(process, self.going, then), name="loop", daemon=True).start()
        return True

    def _wait(self, process: subprocess.Popen[bytes], going: Going, then: Callable[[Going], None]) -> None:
        code = process.wait()
        over = Going(going.until, going.by, going.began, STOPPED if code == -signal.SIGINT else code)
        try:
            then(over)
        finally:
            self.going = over

    def stop(self) -> bool:
        """Let a run that the app began stop as Ctrl-C does, where it can go on from; False when there is none."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        return True

    @property
    def log(self) -> Path:
        """Where the last run that the app began says what it does."""
        return self.folder / "cache" / LOG

    def lines(self) -> list[str]:
        """Return the last lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - BYTES_READ))
                said = log.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        return [line.rstrip() for line in said.splitlines() if line.strip()][-LINES_SHOWN:]
