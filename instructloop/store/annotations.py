"""What labelers say of a prompt itself: its use case and the yes/no questions of Table 7; append-only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from instructloop.core.questions import PROMPT_FIELDS, PROMPT_QUESTIONS_VERSION
from instructloop.core.records import CATEGORIES, Category, content_id
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.bulk import require
from instructloop.store.catalogue import lock_labeler
from instructloop.store.checks import check_time, check_word


@dataclass(frozen=True, slots=True)
class Annotation:
    """One labeler's word on one prompt; a field that is None, or absent, was not answered."""

    id: str
    prompt_id: str
    labeler_id: str
    schema_version: int  # of the questions that were asked
    category: Category | None
    fields: Mapping[str, bool | None]
    annotated_at: datetime


def annotate(
    connection: Connection,
    prompt_id: str,
    labeler_id: str,
    category: Category | None,
    fields: Mapping[str, bool | None],
    now: datetime,
) -> Annotation:
    """Add a labeler's word on a prompt, after which their earlier one counts no more; the same again adds nothing."""
    check(category, fields)
    check_time(now)
    require(connection, t.prompt, [prompt_id])
    lock_labeler(connection, labeler_id)
    earlier = [one for one in of_prompt(connection, prompt_id) if one.labeler_id == labeler_id]
    if earlier and (earlier[0].category, earlier[0].fields) == (category, dict(fields)):
        return earlier[0]
    table = p.annotation
    query = select(func.count()).where(table.c.prompt_id == prompt_id, table.c.labeler_id == labeler_id)
    number = connection.execute(query).scalar_one()
    content = json.dumps([category, dict(fields)], sort_keys=True)
    key = content_id("annotation", prompt_id, labeler_id, str(number), content)
    made = Annotation(key, prompt_id, labeler_id, PROMPT_QUESTIONS_VERSION, category, dict(fields), now)
    connection.execute(insert(table), asdict(made))
    return made


def check(category: str | None, fields: Mapping[str, bool | None]) -> None:
    """Refuse an unknown use case or question, and an answer that is neither yes nor no nor open."""
    if category is not None:
        check_word("category", category, CATEGORIES)
    for field, value in fields.items():
        check_word("annotation: field", field, PROMPT_FIELDS)
        if value is not None and not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"annotation: {field} is {value!r}; it must be true, false or null")


def of_prompt(connection: Connection, prompt_id: str) -> list[Annotation]:
    """Return the newest word of each labeler on a prompt, sorted by labeler."""
    table = p.annotation
    query = select(table).where(table.c.prompt_id == prompt_id).order_by(table.c.annotated_at)
    newest = {row["labeler_id"]: Annotation(**row) for row in connection.execute(query).mappings()}
    return [newest[labeler] for labeler in sorted(newest)]
