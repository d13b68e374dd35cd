"""What a labeler has done: their answers, each open to correction, their pace, agreement and own prompts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from instructloop.store.people import Account
from instructloop.web.assignments import LABELS, desk_of, labeler_of
from instructloop.web.clock import now
from instructloop.web.pages import render
from instructloop.web.policy import allow

router = APIRouter()
ROWS_PER_PAGE = 50
NUM_WRITTEN = 20


@router.get("/history")
def history(request: Request, before: str | None = None, person: Account = allow(*LABELS)) -> Response:
    """Show one's own answers, newest first; `before` is the last one of the page before."""
    desk, labeler = desk_of(request), labeler_of(person)
    rows = desk.history(labeler, ROWS_PER_PAGE + 1, before)
    is_first = before is None
    return render(
        request,
        "work/history.html",
        rows=rows[:ROWS_PER_PAGE],
        older=rows[ROWS_PER_PAGE - 1].assignment_id if len(rows) > ROWS_PER_PAGE else None,
        is_first=is_first,
        pace=desk.pace(labeler, now(request)) if is_first else None,
        agreement=desk.agreement(labeler) if is_first else None,
        written=desk.written(labeler, NUM_WRITTEN) if is_first else [],
    )
