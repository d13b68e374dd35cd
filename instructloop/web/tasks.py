"""Tasks: what is open and who is at it, targets, freezing with one button, and opening tasks beside the loop's own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response

from instructloop.core.records import Cohort, Prompt
from instructloop.store.people import Account
from instructloop.store.reports import ExportOptions, StageProgress
from instructloop.store.rows import TaskItem, TaskKind
from instructloop.store.store import Store
from instructloop.web import exports
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.next_step import next_of
from instructloop.web.pages import number as number_text
from instructloop.web.pages import redirect
from instructloop.web.research import stage_of
from instructloop.web.sections import MAY_CHANGE, MAY_READ, names, show

router = APIRouter(prefix="/research/tasks")
SECTION = "/research/tasks"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
OpenCohort = Literal["train", "heldout", "researcher"]


@router.get("")
def tasks_page(request: Request, person: Account = MAY_READ) -> Response:
    """All sets of tasks: how far, who is at them, what can be done with each."""
    store: Store = request.app.state.store
    at = now(request)
    progress = store.research.progress(at)
    stages = [stage_of(row, ()) for row in progress if row.purpose == "work"]
    name_of = names(store)
    return show(
        request,
        person,
        "research/tasks.html",
        SECTION,
        next=next_of(request, progress),
        open_stages=[stage for stage in stages if stage.of.num_remaining],
        done_stages=[stage for stage in stages if not stage.of.num_remaining],
        others=[stage_of(row, ()) for row in progress if row.purpose != "work"],
        at_it={row.task_set: at_work(store, row.task_set, at, name_of) for row in progress if row.num_leased},
        targets=store.research.targets(),
        aside=store.research.set_aside(),
    )


@router.post("/target")
def set_target(
    request: Request,
    task_set: Annotated[str, Form(max_length=200)],
    wanted: Annotated[int | Literal[""], Form()] = "",
    person: Account = MAY_CHANGE,
) -> Response:
    """Set how many judgements of a set are wanted; nothing: all that its tasks ask for."""
    store: Store = request.app.state.store
    found(store, request, task_set)
    if wanted != "" and not 1 <= wanted <= 10_000_000:
        raise Problem(400, "A target is a number of judgements from 1 up.", field="wanted")
    others = {name: number for name, number in store.research.targets().items() if name != task_set}
    targets = others if wanted == "" else others | {task_set: wanted}
    store.research.set_targets(targets, by=person.id, now=now(request))
    return redirect(request, SECTION, say="The target is set." if wanted != "" else "The target is all tasks again.")


@router.post("/freeze")
def freeze(
    request: Request,
    task_set: Annotated[str, Form(max_length=200)],
    cohort: Annotated[Cohort, Form()],
    person: Account = MAY_CHANGE,
) -> Response:
    """Freeze the answers of a set as the loop does: sorted, latest revisions, with the hash of the file."""
    store: Store = request.app.state.store
    row = next((one for one in found(store, request, task_set) if one.cohort == cohort), None)
    if row is None or row.purpose != "work":
        raise Problem(404, "There is no such set of tasks to freeze.")
    if not row.num_submitted:
        raise Problem(400, "Nobody has submitted anything in this set yet: there is nothing to freeze.")
    job = exports.ask(request, "frozen", ExportOptions(task_sets=(task_set,), cohorts=(cohort,)), person)
    return redirect(request, f"/exports/{job.id}", say="The answers are being frozen.")


@router.get("/open")
def open_page(
    request: Request,
    kind: TaskKind = "demonstrate",
    cohort: OpenCohort = "train",
    person: Account = MAY_CHANGE,
) -> Response:
    """The form that opens tasks, with how many there could be."""
    return open_form(request, person, kind=kind, cohort=cohort)


@router.post("/open")
def open_tasks(
    request: Request,
    kind: Annotated[TaskKind, Form()],
    cohort: Annotated[OpenCohort, Form()],
    name: Annotated[str, Form(max_length=60)],
    number: Annotated[int, Form(ge=1, le=100_000)],
    overlap: Annotated[int, Form(ge=1, le=50)] = 1,
    most: Annotated[int, Form(ge=2, le=9)] = 9,
    first: Annotated[bool, Form()] = False,
    person: Account = MAY_CHANGE,
) -> Response:
    """Open tasks on prompts that nobody was asked about yet."""
    store: Store = request.app.state.store
    taken = {row.task_set for row in store.research.progress(now(request))}
    items = waiting_items(store, kind, cohort, most)
    problem = None
    if not NAME.fullmatch(name):
        problem = "A name is made of small letters, digits, hyphens and underscores, as “pilot-1”."
    elif name in taken:
        problem = f"There is a set named “{name}” already."
    elif not items:
        problem = "There is nothing to ask: every prompt of this kind has been asked about."
    if problem:
        draft = {"set_name": name, "number": number, "overlap": overlap, "most": most}
        return open_form(request, person, kind=kind, cohort=cohort, status=400, problem=problem, **draft)
    opened = store.open_tasks(
        name,
        kind,
        items[:number],
        overlap=overlap,
        cohort=cohort,
        priority=1 if first else 0,
        now=now(request),
    )
    return redirect(request, SECTION, say=f"{number_text(opened)} tasks are open for the cohort “{cohort}”.")


def open_form(
    request: Request, person: Account, *, kind: TaskKind, cohort: OpenCohort, status: int = 200, **draft: object
) -> Response:
    """Return the form that opens tasks."""
    store: Store = request.app.state.store
    count = len(waiting_items(store, kind, cohort, 9))
    given = {"problem": None, "set_name": "", "number": min(100, count), "overlap": 1, "most": 9} | draft
    return show(
        request, person, "research/open.html", SECTION, status=status, kind=kind, cohort=cohort, count=count, **given
    )


def waiting_items(store: Store, kind: TaskKind, cohort: Cohort, most: int) -> list[TaskItem]:
    """Return what could be asked and has not been: prompts without a task, or their completions never compared.

    Held-out labelers judge prompts of the test split, which training never sees; all others judge the rest (paper 3.2).
    """
    prompts = [one for one in store.prompts() if (one.split == "test") == (cohort == "heldout")]
    asked = [item for row in store.task_sets() if row.kind == kind for item in store.items(row.task_set)]
    if kind == "demonstrate":
        known = {item.prompt_id for item in asked}
        return [TaskItem(one.id) for one in prompts if one.id not in known]
    compared = {key for item in asked for key in item.completion_ids}
    return comparisons(store, prompts, compared, most)


def comparisons(store: Store, prompts: Sequence[Prompt], compared: set[str], most: int) -> list[TaskItem]:
    """Return one comparison a prompt of at most `most` completions that no task has shown, different texts only."""
    of_prompt: Mapping[str, dict[str, str]] = defaultdict(dict)
    for completion in store.completions():
        if completion.id not in compared:
            of_prompt[completion.prompt_id].setdefault(completion.text, completion.id)
    return [
        TaskItem(one.id, tuple(list(of_prompt[one.id].values())[:most]))
        for one in prompts
        if len(of_prompt.get(one.id, ())) >= 2
    ]


def at_work(store: Store, task_set: str, at: datetime, name_of: Mapping[str, str]) -> list[str]:
    """Return who has a task of a set in hand, by name where there is one."""
    labelers = {one.labeler_id for one in store.desk.who_is_at_it(task_set, at)}
    return sorted(name_of.get(labeler, labeler) for labeler in labelers)


def found(store: Store, request: Request, task_set: str) -> list[StageProgress]:
    """Return a set's rows, one a cohort, or the answer 404."""
    rows = [row for row in store.research.progress(now(request)) if row.task_set == task_set]
    if not rows:
        raise Problem(404, "There is no such set of tasks.")
    return rows
