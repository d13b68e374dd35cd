"""The instructions that labelers work under, version by version; the first of each kind ships with the package."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.checks import check_text, check_time, check_word
from instructloop.store.rows import TaskKind

EVALUATION = re.compile(r"r\d+-eval")
"""How the name of a task set begins whose step compares policies for the report: r00-eval_rankings-…"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One version of one text; `created_at` is None for the shipped one until somebody has worked under it."""

    kind: str
    version: int
    markdown: str
    created_by: str | None
    created_at: datetime | None


@cache
def shipped(kind: str) -> str:
    """Return the text of the package."""
    return files("instructloop.store").joinpath("instructions", f"{kind}.md").read_text(encoding="utf-8")


def kind_for(task_kind: TaskKind, task_set: str) -> str:
    """Return which text a task is done under: final evaluations weigh truth and harm first (paper 3.4, Figure 10)."""
    return "evaluate" if task_kind == "compare" and EVALUATION.match(task_set) else task_kind


def newest(connection: Connection, kind: str) -> Instruction:
    """Return the version that is shown."""
    check_word("instruction: kind", kind, p.INSTRUCTION_KINDS)
    table = p.instruction
    query = select(table).where(table.c.kind == kind).order_by(table.c.version.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return Instruction(kind, 1, shipped(kind), None, None) if row is None else Instruction(**row)


def versions(connection: Connection) -> list[Instruction]:
    """Return every version of every kind, each kind's newest first."""
    table = p.instruction
    query = select(table).order_by(table.c.version.desc())
    found = [Instruction(**row) for row in connection.execute(query).mappings()]
    stored = {instruction.kind for instruction in found}
    found += [Instruction(kind, 1, shipped(kind), None, None) for kind in p.INSTRUCTION_KINDS if kind not in stored]
    return sorted(found, key=lambda one: p.INSTRUCTION_KINDS.index(one.kind))


def add(connection: Connection, kind: str, markdown: str, by: str | None, now: datetime) -> Instruction:
    """Add the next version, shown from now on, and return it; the text that is shown already adds nothing."""
    check_time(now)
    check_text("instruction", markdown)
    shown = newest(connection, kind)
    if shown.markdown == markdown:
        return shown
    require(connection, kind, shown.version, now)
    made = Instruction(kind, shown.version + 1, markdown, by, now)
    if not insert_new(connection, made):
        raise ValueError(f"instruction: somebody else has just added version {made.version} of {kind}; read it first")
    record(
        connection,
        at=now,
        actor=by,
        action="instruction.add",
        object_id=f"{kind}-{made.version}",
        before={"markdown": shown.markdown},
        after={"markdown": markdown},
    )
    return made


def require(connection: Connection, kind: str, version: int, now: datetime) -> None:
    """Refuse a version that nobody was shown; the shipped text becomes a row when it is first worked under."""
    table = p.instruction
    query = select(func.count()).where(table.c.kind == kind, table.c.version == version)
    if connection.execute(query).scalar():
        return
    if version != 1:
        raise ValueError(f"instruction: there is no version {version} of {kind}")
    insert_new(connection, Instruction(kind, 1, shipped(kind), None, now))


def insert_new(connection: Connection, made: Instruction) -> bool:
    """Insert a version and return whether it is new: another transaction may have inserted it in the meantime."""
    try:
        with connection.begin_nested():
            connection.execute(insert(p.instruction), asdict(made))
    except IntegrityError:
        return False
    return True
