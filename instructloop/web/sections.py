"""What the researchers' pages share: who may read and who may change, their sections, pages of long lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from instructloop.store.people import Account
from instructloop.store.store import Store
from instructloop.web.pages import render
from instructloop.web.policy import allow

READERS = ("owner", "researcher", "auditor")
CHANGERS = ("owner", "researcher")
MAY_READ = allow(*READERS)
MAY_CHANGE = allow(*CHANGERS)
OWNER_ONLY = allow("owner")

SECTIONS = (
    ("/research", "Overview"),
    ("/research/tasks", "Tasks"),
    ("/research/agreement", "Agreement"),
    ("/research/labelers", "Labelers"),
    ("/research/conflicts", "Conflicts"),
    ("/research/screening", "Screening"),
    ("/research/search", "Search"),
    ("/research/instructions", "Instructions"),
)
ROWS_PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Pages:
    """Which page of a long list is shown, of how many."""

    page: int
    total: int
    rows: int = ROWS_PER_PAGE

    @property
    def pages(self) -> int:
        """Return how many pages there are, one at least."""
        return max(1, math.ceil(self.total / self.rows))

    @property
    def offset(self) -> int:
        """Return how many rows come before this page."""
        return (self.page - 1) * self.rows


def show(
    request: Request, person: Account, template: str, section: str, *, status: int = 200, **context: Any
) -> Response:
    """Return one of the researchers' pages; auditors get it without what changes something."""
    return render(
        request,
        template,
        status=status,
        sections=SECTIONS,
        section=section,
        may_change=person.role in CHANGERS,
        is_owner=person.role == "owner",
        **context,
    )


def names(store: Store) -> Mapping[str, str]:
    """Return labeler id -> the person's name, of those who have an account; simulated and imported ones have none."""
    return {one.labeler_id: one.name for one in store.accounts.accounts() if one.labeler_id and one.name}


def actors(store: Store) -> Mapping[str, str]:
    """Return account id -> name, for pages that say who did something."""
    return {one.id: one.name or one.id for one in store.accounts.accounts()}
