"""Search over the texts of prompts, completions, demonstrations and notes; plain matching, no index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, func, literal, select, union_all

from instructloop.store import tables as t
from instructloop.store.checks import check_text, check_word
from instructloop.store.judged import SUBMITTED
from instructloop.store.reports import Hit, HitKind, Page

AROUND = 80
"""Characters of the text that an excerpt shows on either side."""

PLACES: dict[HitKind, tuple[FromClause, tuple[ColumnElement[Any], ...]]] = {
    "prompt": (t.prompt, (t.prompt.c.id, t.prompt.c.id, t.prompt.c.text, t.prompt.c.source)),
    "completion": (
        t.completion,
        (t.completion.c.id, t.completion.c.prompt_id, t.completion.c.text, t.completion.c.policy),
    ),
    "demonstration": (
        SUBMITTED.join(t.demonstration, t.demonstration.c.submission_id == t.submission.c.id),
        (t.submission.c.id, t.task.c.prompt_id, t.demonstration.c.text, t.assignment.c.labeler_id),
    ),
    "note": (
        SUBMITTED.join(t.rating, t.rating.c.submission_id == t.submission.c.id),
        (t.submission.c.id, t.task.c.prompt_id, t.rating.c.note, t.assignment.c.labeler_id),
    ),
}
"""Where each kind of text is: id, prompt, the text itself, whose it is."""


def search(connection: Connection, text: str, kind: HitKind | None, limit: int, offset: int) -> Page[Hit]:
    """Return texts that hold `text`, by kind and id; case does not matter for ASCII letters, on PostgreSQL for any."""
    check_text("text to search for", text)
    if kind is not None:
        check_word("kind", kind, PLACES)
    wanted = text.strip()
    parts = [
        select(
            literal(name).label("kind"),
            *(column.label(label) for label, column in zip(("id", "prompt_id", "text", "who"), columns, strict=True)),
        )
        .select_from(source)
        .where(columns[2].icontains(wanted, autoescape=True))
        for name, (source, columns) in PLACES.items()
        if kind in (None, name)
    ]
    hits = union_all(*parts).subquery()
    total = connection.execute(select(func.count()).select_from(hits)).scalar_one()
    query = select(hits).order_by(hits.c.kind, hits.c.id, hits.c.text).limit(limit).offset(offset)
    rows = connection.execute(query).all()
    return Page(tuple(Hit(row.kind, row.id, row.prompt_id, excerpt(row.text, wanted), row.who) for row in rows), total)


def excerpt(text: str, wanted: str) -> str:
    """Return the part of a text around the first place that matches, with … where it goes on."""
    place = max(0, text.lower().find(wanted.lower()))
    start, end = max(0, place - AROUND), place + len(wanted) + AROUND
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
