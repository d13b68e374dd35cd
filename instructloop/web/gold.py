"""Gold: what researchers hold to be right on tasks of screening and calibration, and how such tasks are opened."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile

from instructloop.core.questions import FLAG_QUESTIONS
from instructloop.core.records import FLAGS, Cohort
from instructloop.core.screening import SENSITIVE
from instructloop.store.people import Account
from instructloop.store.rows import TaskItem
from instructloop.store.screening_reports import GoldForm, GoldPurpose, GoldTask
from instructloop.store.store import Store
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.forms import named, posted
from instructloop.web.pages import redirect
from instructloop.web.ranks import RankError, letters, tiers_of
from instructloop.web.sections import MAY_CHANGE, MAY_READ, actors, show

router = APIRouter(prefix="/research/screening/gold")
SECTION = "/research/screening"


@router.get("")
def gold_page(
    request: Request,
    purpose: GoldPurpose = "screening",
    person: Account = MAY_READ,
) -> Response:
    """The tasks of screening or calibration and their gold, with the forms to add some."""
    store: Store = request.app.state.store
    sources = [row for row in store.research.progress(now(request)) if row.kind == "compare" and row.purpose == "work"]
    return show(
        request,
        person,
        "research/gold.html",
        SECTION,
        purpose=purpose,
        tasks=store.screening.gold_tasks(purpose),
        sources=sorted({row.task_set for row in sources}),
        cohorts=("screening",) if purpose == "screening" else ("train", "heldout"),
    )


@router.post("/open")
def open_gold(
    request: Request,
    purpose: Annotated[GoldPurpose, Form()],
    task_set: Annotated[str, Form(max_length=200)],
    number: Annotated[int, Form(ge=1, le=500)],
    num_people: Annotated[int, Form(ge=1, le=1000)],
    cohort: Annotated[Cohort, Form()] = "screening",
    person: Account = MAY_CHANGE,
) -> Response:
    """Ask about completions of a finished set again, as screening or calibration."""
    store: Store = request.app.state.store
    used = {(task.prompt.id, frozenset(one.id for one in task.completions)) for task in store.screening.gold_tasks()}
    items = [
        TaskItem(item.prompt_id, item.completion_ids)
        for item in store.items(task_set)
        if (item.prompt_id, frozenset(item.completion_ids)) not in used
    ]
    # Every nth, so that the choice does not depend on the order in which the set was opened.
    chosen = items[:: max(1, len(items) // number)][:number]
    opened = store.screening.open_sets(
        chosen, purpose=purpose, cohort=cohort, num_people=num_people, by=person.id, now=now(request)
    )
    return redirect(request, f"{SECTION}/gold?purpose={purpose}", say=f"{opened} tasks are open; give each its gold.")


@router.post("/import")
def import_gold(
    request: Request,
    file: UploadFile,
    purpose: Annotated[GoldPurpose, Form()],
    num_people: Annotated[int, Form(ge=1, le=1000)],
    cohort: Annotated[Cohort, Form()] = "screening",
    person: Account = MAY_CHANGE,
) -> Response:
    """Open tasks, with gold where given, from a file of JSON lines."""
    store: Store = request.app.state.store
    with tempfile.TemporaryDirectory(prefix="instructloop-gold-") as folder:
        path = Path(folder) / "gold.jsonl"
        path.write_bytes(file.file.read())
        done = store.screening.import_sets(
            path, purpose=purpose, cohort=cohort, num_people=num_people, by=person.id, now=now(request)
        )
    dropped = "".join(f", {count} {reason}" for reason, count in done.dropped.items())
    say = f"{done.num_kept} of {done.num_read} lines are open as tasks{dropped}."
    return redirect(request, f"{SECTION}/gold?purpose={purpose}", say=say)


@router.get("/{task_id}")
def gold_task_page(
    request: Request,
    task_id: str,
    person: Account = MAY_READ,
) -> Response:
    """One task with its gold, and the form for the next version."""
    return gold_form(request, person, task_id)


@router.post("/{task_id}")
def set_gold(
    request: Request,
    task_id: str,
    why: Annotated[str, Form(max_length=4000)] = "",
    fields: Mapping[str, str] = posted,
    person: Account = MAY_CHANGE,
) -> Response:
    """Keep a version of a task's gold: an order, flags, and why."""
    store: Store = request.app.state.store
    task = known_task(store, task_id)
    ranks = {key: rank for key, rank in named(fields, "rank-").items() if rank}
    flags = flags_of(task, named(fields, "flag-"))
    try:
        tiers = tiers_of(ranks, [one.id for one in task.completions]) if ranks else ()
        if not ranks and not any(value is not None for given in flags.values() for value in given.values()):
            raise RankError("Rank the completions, or answer a flag: there is no gold in an empty form.")
    except RankError as problem:
        draft = {"problem": str(problem), "ranks": ranks, "flags": flags, "why": why}
        return gold_form(request, person, task_id, status=400, **draft)
    version = store.screening.set_gold(task_id, GoldForm(tiers, flags, why.strip()), by=person.id, now=now(request))
    return redirect(request, f"{SECTION}/gold?purpose={task.purpose}", say=f"Gold version {version} is kept.")


def flags_of(task: GoldTask, posted_flags: Mapping[str, str]) -> dict[str, dict[str, bool | None]]:
    """Return completion -> flag -> yes, no or unanswered; fields are named COMPLETION:FLAG."""
    words = {"yes": True, "no": False}
    return {
        one.id: {flag: words.get(posted_flags.get(f"{one.id}:{flag}", "")) for flag in FLAGS}
        for one in task.completions
    }


def gold_form(request: Request, person: Account, task_id: str, *, status: int = 200, **draft: object) -> Response:
    """Return the page of one gold task."""
    store: Store = request.app.state.store
    task = known_task(store, task_id)
    gold = task.gold
    ranks = {key: str(rank) for rank, tier in enumerate(gold.tiers, 1) for key in tier} if gold else {}
    given = {"problem": None, "ranks": ranks, "flags": gold.flags if gold else {}, "why": gold.why if gold else ""}
    return show(
        request,
        person,
        "research/gold_task.html",
        SECTION,
        status=status,
        task=task,
        questions=FLAG_QUESTIONS,
        sensitive=SENSITIVE,
        letters=letters([one.id for one in task.completions]),
        actors=actors(store),
        **(given | draft),
    )


def known_task(store: Store, task_id: str) -> GoldTask:
    """Return a task of screening or calibration, or the answer 404."""
    task = next((one for one in store.screening.gold_tasks() if one.id == task_id), None)
    if task is None:
        raise Problem(404, "There is no such task of screening or calibration.")
    return task


def gold_counts(tasks: Sequence[GoldTask], purpose: str) -> tuple[int, int]:
    """Return how many tasks of a purpose there are, and how many comparisons among them still lack gold."""
    mine = [task for task in tasks if task.purpose == purpose]
    return len(mine), sum(task.gold is None and task.kind == "compare" for task in mine)
