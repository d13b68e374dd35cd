"""The tasks of the next stage with one button: what the loop would do, what blocks it, going on, stopping."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import JSONResponse

from instructloop.store.people import Account
from instructloop.store.reports import StageProgress
from instructloop.store.store import Store
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.loop import Ahead, Going, Loop
from instructloop.web.pages import number, redirect
from instructloop.web.sections import MAY_CHANGE, MAY_READ, actors

router = APIRouter(prefix="/research/tasks/next")
SECTION = "/research/tasks"
DOES = {"demonstrate": "writing", "compare": "ranking"}


@dataclass(frozen=True, slots=True)
class Next:
    """What the page says of the next step; `button` None: it cannot be pressed, for the reason in `why`."""

    state: str  # looking, running, elsewhere, ready, blocked, over, unknown
    seen: str = ""
    button: str | None = None
    why: str = ""
    ahead: Ahead | None = None
    going: Going | None = None
    by: str = ""
    lines: Sequence[str] = ()


def next_of(request: Request, progress: Sequence[StageProgress]) -> Next | None:
    """Return where the loop stands for the page; None where the app does not drive it."""
    loop: Loop | None = request.app.state.loop
    if loop is None:
        return None
    going = loop.going
    by = actors(request.app.state.store).get(going.by, going.by) if going else ""
    if going is not None and going.state == "running":
        return Next("running", going=going, by=by, lines=loop.lines())
    if (pid := loop.elsewhere()) is not None:
        return Next("elsewhere", why=f"process {pid}", lines=loop.lines())
    seen = state_of(loop, progress)
    found = loop.look(seen)
    told = {"seen": seen, "going": going, "by": by, "lines": loop.lines() if going else ()}
    if found is None:
        return Next("looking", **told)
    if isinstance(found, str):
        return Next("unknown", why=found, **told)
    if why := blocked(found, progress):
        return Next("blocked", why=why, ahead=found, **told)
    if found.opening is None and not found.steps:
        return Next("over", ahead=found, **told)
    return Next("ready", button=button_of(found), ahead=found, **told)


def state_of(loop: Loop, progress: Sequence[StageProgress]) -> str:
    """Return a hash of what decides what is next: the runs, and which sets of tasks are open and complete."""
    sets = sorted((row.task_set, row.cohort, row.num_remaining > 0) for row in progress if row.purpose == "work")
    return hashlib.sha256(f"{loop.changed()} {sets}".encode()).hexdigest()[:16]


def blocked(ahead: Ahead, progress: Sequence[StageProgress]) -> str:
    """Return which judgements must come first, "" when none."""
    left: Mapping[str, int] = {row.task_set: row.num_remaining for row in progress}
    waits = [(step, left.get(tasks, 0)) for step, tasks in ahead.waits_for.items()]
    named = [f"{number(n)} judgement{'' if n == 1 else 's'} of {words(step)}" for step, n in waits if n]
    return ", ".join(named)


def button_of(ahead: Ahead) -> str:
    """Return what the button does, in words."""
    if ahead.opening is None:
        return f"Go on to the end of round {ahead.round}"
    kind = f"{DOES[ahead.opening.kind]} tasks of round {ahead.round}"
    if ahead.opening.num_tasks is not None and not ahead.steps:
        return f"Open {number(ahead.opening.num_tasks)} {kind}"
    return f"Go on to the {kind}"


def words(step: str) -> str:
    """Return a step's name as people say it."""
    return step.replace("_", " ")


@router.get("")
def state(request: Request, person: Account = MAY_READ) -> Response:
    """How far it is, for the page that waits: "done" when there is something new to see."""
    found = next_of(request, progress_of(request))
    if found is None or found.state not in ("looking", "running"):
        return JSONResponse({"state": "done"})
    return JSONResponse({"state": found.state, "lines": list(found.lines)})


@router.post("")
def go_on(request: Request, seen: Annotated[str, Form(max_length=64)] = "", person: Account = MAY_CHANGE) -> Response:
    """Let the loop go on to the next tasks; what the page said, or nothing."""
    loop = loop_of(request)
    found = next_of(request, progress_of(request))
    assert found is not None
    if found.state in ("running", "elsewhere"):
        return redirect(request, SECTION, say="The loop is at work already.")
    if found.state == "blocked":
        raise Problem(409, f"The loop cannot go on yet: it waits for {found.why}.")
    if found.ahead is None or found.state != "ready" or found.seen != seen:
        return redirect(request, SECTION, say="Something has changed meanwhile: look at what is next now.")
    app, until = request.app, found.ahead.until
    if not loop.go_on(until, by=person.id, began=now(request), then=lambda over: note_end(app, over)):
        return redirect(request, SECTION, say="The loop is at work already.")
    note(app, "loop.begin", person.id, until, found.ahead.model_dump(mode="json", include={"round", "steps", "frozen"}))
    return redirect(request, SECTION)


@router.post("/stop")
def stop(request: Request, person: Account = MAY_CHANGE) -> Response:
    """Stop what the app began, where it can go on from."""
    loop = loop_of(request)
    if loop.stop():
        note(request.app, "loop.stop", person.id, loop.going.until if loop.going else None, {})
        return redirect(request, SECTION, say="The loop stops at the next point from which it can go on.")
    return redirect(request, SECTION, say="Nothing is at work.")


def loop_of(request: Request) -> Loop:
    """Return the loop, or the answer 404."""
    if request.app.state.loop is None:
        raise Problem(404, "This app does not drive a loop: people are simulated in this workspace.")
    return request.app.state.loop


def progress_of(request: Request) -> list[StageProgress]:
    """Return where every set of tasks stands."""
    store: Store = request.app.state.store
    return store.research.progress(now(request))


def note(app: FastAPI, action: str, actor: str | None, until: str | None, details: Mapping[str, object]) -> None:
    """Keep in the audit log who let the loop go on, to where, and how it ended."""
    store: Store = app.state.store
    store.audit.note(action, until or "end of the round", actor=actor, details=details, now=app.state.clock())


def note_end(app: FastAPI, over: Going) -> None:
    """Keep in the audit log how a run ended."""
    seconds = round((app.state.clock() - over.began).total_seconds())
    note(app, "loop.end", None, over.until, {"state": over.state, "code": over.code, "seconds": seconds})
