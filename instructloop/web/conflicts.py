"""Tasks on which labelers disagree, side by side, and a researcher's word on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from instructloop.store.people import Account
from instructloop.store.store import Store
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.forms import named, posted
from instructloop.web.pages import redirect
from instructloop.web.ranks import RankError, letters, tiers_of
from instructloop.web.sections import MAY_CHANGE, MAY_READ, Pages, actors, names, show

router = APIRouter(prefix="/research")


@router.get("/conflicts")
def conflicts_page(
    request: Request, page: Annotated[int, Query(ge=1, le=100_000)] = 1, person: Account = MAY_READ
) -> Response:
    """Tasks on which labelers disagree, worst first."""
    store: Store = request.app.state.store
    rows = 25
    found = store.research.conflicts(rows, (page - 1) * rows)
    pages = Pages(page, found.total, rows)
    return show(request, person, "research/conflicts.html", "/research/conflicts", conflicts=found.rows, pages=pages)


@router.get("/conflicts/{task_id}")
def conflict_page(request: Request, task_id: str, person: Account = MAY_READ) -> Response:
    """One task with all its judgements side by side, and the form to settle it."""
    return conflict_form(request, person, task_id)


@router.post("/conflicts/{task_id}")
def adjudicate(
    request: Request,
    task_id: str,
    reason: Annotated[str, Form(max_length=2000)] = "",
    fields: Mapping[str, str] = posted,
    person: Account = MAY_CHANGE,
) -> Response:
    """Keep a researcher's order of a task's completions, or show the form again with what is missing."""
    store: Store = request.app.state.store
    ranks = named(fields, "rank-")
    detail = store.research.conflict(task_id)
    if detail is None:
        raise Problem(404, "There is no such task with several judgements.")
    try:
        tiers = tiers_of(ranks, [one.id for one in detail.completions])
        if not reason.strip():
            raise RankError("Say in a sentence why: others will read it beside the judgements.")
    except RankError as problem:
        draft = {"problem": str(problem), "ranks": ranks, "reason": reason}
        return conflict_form(request, person, task_id, status=400, **draft)
    store.research.adjudicate(task_id, tiers, reason.strip(), by=person.id, now=now(request))
    return redirect(request, "/research/conflicts", say="Your order is kept beside the judgements.")


def conflict_form(request: Request, person: Account, task_id: str, *, status: int = 200, **draft: object) -> Response:
    """Return the page of one conflict."""
    store: Store = request.app.state.store
    detail = store.research.conflict(task_id)
    if detail is None:
        raise Problem(404, "There is no such task with several judgements.")
    context = {"problem": None, "ranks": {}, "reason": ""} | draft
    place = {
        (judgement.submission_id, key): rank
        for judgement in detail.judgements
        for rank, tier in enumerate(judgement.tiers, 1)
        for key in tier
    }
    return show(
        request,
        person,
        "research/conflict.html",
        "/research/conflicts",
        status=status,
        detail=detail,
        place=place,
        letters=letters([one.id for one in detail.completions]),
        name_of=names(store),
        actors=actors(store),
        **context,
    )
