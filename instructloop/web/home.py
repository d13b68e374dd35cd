"""The start page of each role: what waits, and what to do next."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from instructloop.store import Progress, Store
from instructloop.store.people import Account
from instructloop.web.clock import now
from instructloop.web.pages import render
from instructloop.web.policy import allow

router = APIRouter()
DOES = {  # kind of task -> verb and noun, for one and for many
    "demonstrate": ("Write a demonstration", "demonstration to write", "demonstrations to write"),
    "compare": ("Compare completions", "comparison to make", "comparisons to make"),
}


@router.get("/")
def home(request: Request, person: Account = allow("owner", "researcher", "labeler", "auditor")) -> Response:
    """Show the start page."""
    store: Store = request.app.state.store
    waiting: dict[str, int] = {}
    if person.labeler_id is not None:
        counts = store.desk.waiting(person.labeler_id, now(request))
        waiting = {kind: number for kind, number in counts.items() if number}
    if person.role == "labeler":
        assert person.labeler_id is not None
        pace = store.desk.pace(person.labeler_id, now(request))
        return render(request, "home_labeler.html", does=DOES, waiting=waiting, pace=pace)
    task_sets = store.task_sets()
    steps = _first_steps(store, task_sets)
    return render(request, "home_team.html", does=DOES, waiting=waiting, steps=steps, task_sets=task_sets)


def _first_steps(store: Store, task_sets: list[Progress]) -> list[tuple[bool, str, str, str]]:
    """Return what a new project needs: whether it is done, its name, what to do, and where."""
    people = [account for account in store.accounts.accounts() if account.state == "active"]
    return [
        (
            any(account.role == "labeler" for account in people),
            "Invite labelers",
            "Each gets a link of their own that works once; the cohort decides what their judgements are for.",
            "/people/invite",
        ),
        (
            bool(task_sets),
            "Open tasks",
            "The loop opens them when a stage needs people; those of the next stage are opened with one button.",
            "/research/tasks",
        ),
        (
            any(progress.num_submitted for progress in task_sets),
            "Read the instructions once more",
            "The first judgements are made under them; every submission names the version it was made under.",
            "/research/instructions",
        ),
    ]
