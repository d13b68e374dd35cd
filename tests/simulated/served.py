"""The app over a workspace's store on a port of this machine, in a thread, with hashing that takes no time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import uvicorn
from argon2 import PasswordHasher

from benchmarks.made_up_tasks import open_tasks
from instructloop.web.app import create_app
from instructloop.web.loop import Loop
from instructloop.web.passwords import Passwords
from instructloop.web.settings import Settings
from instructloop.workspace import Workspace

RANKED, WRITTEN = "ranked-0", "written-0"


@contextmanager
def serving(workspace: Workspace, loop: Loop | None = None) -> Iterator[str]:
    """Yield where the app answers; with `loop` it lets that go on."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        fast = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        app = create_app(workspace.store, Settings(port=port), folder=workspace.root, loop=loop, passwords=fast)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(20)


def with_tasks(root: Path, num_sets: int) -> Workspace:
    """Return a workspace in which three labelers rank each of some made-up sets, and two write of half of them."""
    workspace = Workspace.create(root, "microworld", people="app")
    assert open_tasks(workspace, num_sets, num_sets // 2, writers=2) == (RANKED, WRITTEN)
    return workspace
