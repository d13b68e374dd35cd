"""The start page of each role: what to do next."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from instructloop.store.people import Account
from instructloop.web.pages import render
from instructloop.web.policy import allow

router = APIRouter()


@router.get("/")
def home(request: Request, person: Account = allow("owner", "researcher", "labeler", "auditor")) -> Response:
    """Show the start page."""
    return render(request, "home.html")
