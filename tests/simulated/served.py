"""A workspace of the microworld with tasks in it, and the app over its store on a port of this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import uvicorn
from argon2 import PasswordHasher

from instructloop.core.records import Completion
from instructloop.microworld import prompts
from instructloop.microworld.made_up import synthetic_sets
from instructloop.microworld.world import world_of
from instructloop.store import TaskItem
from instructloop.web.app import create_app
from instructloop.web.passwords import Passwords
from instructloop.web.settings import Settings
from instructloop.workspace import Workspace

WRITERS = 2  # of a team of three


@contextmanager
def serving(workspace: Workspace) -> Iterator[str]:
    """Yield where the app over the workspace's store answers; hashing is cheap, for it is not what is tested."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        fast = Passwords(PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        app = create_app(workspace.store, Settings(port=port), folder=workspace.root, passwords=fast)
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
    world = world_of(workspace.seed)
    asked = {prompt.id: prompt for prompt in prompts.raw_prompts(world)}
    sets = synthetic_sets(world, num_sets, 7)
    workspace.store.add_prompts([asked[one.prompt[0]] for one in sets])
    items = list[TaskItem]()
    for one in sets:
        made = [
            Completion.make(one.prompt[0], text, policy=f"p{k}", policy_run="r", index=0, sampling={}, finished=True)
            for k, (_, text) in enumerate(one.completions)
        ]
        workspace.store.add_completions(made)
        items.append(TaskItem(one.prompt[0], tuple(completion.id for completion in made)))
    now = workspace.now()
    workspace.store.open_tasks("ranked", "compare", items, overlap=3, cohort="train", now=now)
    to_write = [TaskItem(item.prompt_id) for item in items[: num_sets // 2]]
    workspace.store.open_tasks("written", "demonstrate", to_write, overlap=WRITERS, cohort="train", now=now)
    return workspace
