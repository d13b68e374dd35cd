"""Search in the texts of prompts, completions, demonstrations and notes."""

from __future__ import annotations

import re
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from instructloop.store.people import Account
from instructloop.store.reports import HitKind
from instructloop.store.store import Store
from instructloop.web.errors import Problem
from instructloop.web.sections import MAY_READ, Pages, names, show

router = APIRouter(prefix="/research")


@router.get("/search")
def search_page(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    kind: Annotated[str, Query(alias="in", max_length=16)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    person: Account = MAY_READ,
) -> Response:
    """Texts of prompts, completions, demonstrations and notes that hold some words."""
    store: Store = request.app.state.store
    kinds: tuple[str, ...] = get_args(HitKind)
    if kind and kind not in kinds:
        raise Problem(404, "There is no such kind of text.")
    pages = Pages(page, 0)
    hits: list[tuple[object, list[tuple[bool, str]]]] = []
    if q.strip():
        found = store.research.search(q.strip(), kind or None, pages.rows, pages.offset)  # type: ignore[arg-type]
        pages = Pages(page, found.total)
        hits = [(hit, parts(hit.excerpt, q.strip())) for hit in found.rows]
    return show(
        request,
        person,
        "research/search.html",
        "/research/search",
        q=q,
        kind=kind,
        kinds=kinds,
        hits=hits,
        pages=pages,
        name_of=names(store),
    )


def parts(text: str, words: str) -> list[tuple[bool, str]]:
    """Return a text cut into (is it what was searched for, piece)."""
    pieces = re.split(f"({re.escape(words)})", text, flags=re.IGNORECASE)
    return [(i % 2 == 1, piece) for i, piece in enumerate(pieces) if piece]
