"""One visit of the simulated labelers to an app: they come in, work until nothing is left, and go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from instructloop.console import Console
from instructloop.microworld.judge import Judge
from instructloop.microworld.labelers import team
from instructloop.microworld.opinions import SimulatedLabeler
from instructloop.microworld.world import world_of
from instructloop.simulated.shift import Handbook, Shift, Visitor
from instructloop.simulated.visitors import come_in, shared_password
from instructloop.web.browser import Browser
from instructloop.workspace import Workspace

PASSWORD_FILE = "simulated-labelers.json"
NUM_AT_THE_DOOR = 4  # the app hashes three passwords at once
HELDOUT_PER_TRAIN = 15 / 40
LEAST_PEOPLE = 3  # as many as look at a shared task


def people(seed: int, num_train: int) -> list[SimulatedLabeler]:
    """Return `num_train` training labelers and held-out ones in the proportion of 40 to 15, three at least."""
    if num_train < LEAST_PEOPLE:
        raise ValueError(f"team {num_train} must be at least {LEAST_PEOPLE}: shared tasks are for so many labelers")
    return team(seed, num_train=num_train, num_heldout=max(LEAST_PEOPLE, math.ceil(num_train * HELDOUT_PER_TRAIN)))


def visit(
    workspace: Workspace, url: str, console: Console, *, num_train: int, seed: int | None, speed: float | None
) -> Shift:
    """Let simulated labelers do what waits in the app at `url`, which serves the workspace's store; return the shift.

    `seed` draws the people, by default the workspace's, as in a loop without the app. They are signed in again when
    the visit is repeated, so one that was interrupted goes on where it was.
    """
    if workspace.recipe != "microworld":
        raise ValueError(f"recipe {workspace.recipe}: simulated labelers know the prompts of the microworld alone")
    if speed is not None and not speed > 0:
        raise ValueError(f"speed {speed} must be above 0")
    own = workspace.seed if seed is None else seed
    everyone = people(own, num_train)
    visitors = bring_in(workspace, lambda: Browser(url), everyone, console)
    waiting = sum(progress.num_remaining for progress in workspace.store.task_sets())
    if not waiting:
        raise ValueError(f"no task waits for labelers in {workspace.root}: `instructloop run` opens them")
    handbook = Handbook(workspace.store, everyone, Judge(world_of(workspace.seed)), own)
    progress = console.track(waiting, "labelling", unit="judgements")
    shift = Shift(handbook, progress, speed)
    try:
        shift.work(visitors)
    except KeyboardInterrupt:
        done = f"{shift.num_submitted} judgements were submitted and are kept"
        raise KeyboardInterrupt(f"stopped: {done}, what was begun too") from None
    finally:
        progress.close()
    foreign = f", {shift.num_foreign} of them prompts of another world" if shift.num_foreign else ""
    console.log(f"submitted {shift.num_submitted} judgements, skipped {shift.num_skipped} tasks{foreign}")
    return shift


def bring_in(
    workspace: Workspace, browse: Callable[[], Browser], everyone: Sequence[SimulatedLabeler], console: Console
) -> list[Visitor]:
    """Return everybody signed in, with a browser each that `browse` opens."""
    password, store = shared_password(password_file(workspace)), workspace.store
    progress = console.track(len(everyone), "signing in", unit="labelers")

    def bring(person: SimulatedLabeler) -> Visitor:
        browser = browse()
        labeler_id = come_in(store, browser, person.id, person.cohort, password=password, now=workspace.now())
        progress.advance(1)
        return Visitor(person, labeler_id, browser)

    door = ThreadPoolExecutor(NUM_AT_THE_DOOR)
    try:
        return list(door.map(bring, everyone))
    finally:
        door.shutdown(cancel_futures=True)
        progress.close()


def password_file(workspace: Workspace) -> Path:
    """Return where the simulated labelers' password is: a workspace may be visited again."""
    return workspace.cache / PASSWORD_FILE
