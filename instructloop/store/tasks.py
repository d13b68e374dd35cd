"""Tasks: opening them in bulk, the names and kinds of task sets; work on them is in labelling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import groupby
from typing import cast

from sqlalchemy import Connection, func, select

from instructloop.core.records import COHORTS, Cohort, content_id
from instructloop.store import tables as t
from instructloop.store.bulk import Values, insert_all, require, take_turns
from instructloop.store.checks import check_text, check_time, check_word
from instructloop.store.rows import TaskItem, TaskKind


def open_tasks(
    connection: Connection,
    task_set: str,
    kind: TaskKind,
    items: Sequence[TaskItem],
    *,
    overlap: int,
    cohort: Cohort,
    priority: int,
    now: datetime,
) -> int:
    """Insert one task per item and return how many are new; an item that is open already opens nothing.

    Raises ValueError for an unknown prompt or completion, a completion of another prompt, an overlap below 1, a known
    item with another overlap, and a task set that holds the other kind.
    """
    check_time(now)
    check_text("task set", task_set)
    check_word("kind", kind, t.TASK_KINDS)
    check_word("cohort", cohort, COHORTS)
    check_items(connection, kind, items)
    take_turns(connection)
    known = known_tasks(connection, task_set, kind)
    position = len(known)
    tasks: list[Values] = []
    for item in items:
        wanted = overlap if item.overlap is None else item.overlap
        if wanted < 1:
            raise ValueError(f"overlap {wanted} of prompt {item.prompt_id} must be at least 1")
        key = task_id(task_set, kind, cohort, item)
        if known.setdefault(key, wanted) != wanted:
            raise ValueError(f"task {key} is open with overlap {known[key]}, not {wanted}")
        if len(known) > position:
            place = {"priority": priority, "position": position}
            tasks.append(task_values(key, task_set, kind, cohort, **place, overlap=wanted, now=now) | {"item": item})
            position += 1
    insert_tasks(connection, tasks)
    return len(tasks)


def task_id(task_set: str, kind: str, cohort: str, item: TaskItem) -> str:
    """Return the id of a task: the same question to the same cohort in the same set is the same task."""
    return content_id("task", task_set, kind, cohort, item.prompt_id, *item.completion_ids)


def task_values(
    key: str, task_set: str, kind: str, cohort: str, *, priority: int, position: int, overlap: int, now: datetime
) -> Values:
    """Return the columns of a task that nobody has taken yet, but for its prompt."""
    counts = {"overlap": overlap, "num_held": 0, "num_submitted": 0, "num_skipped": 0}
    names = {"id": key, "task_set": task_set, "kind": kind, "cohort": cohort}
    return names | {"priority": priority, "position": position, "opened_at": now} | counts


def insert_tasks(connection: Connection, tasks: Sequence[Values]) -> None:
    """Insert tasks, each with its item under "item", and the completions that each shows."""
    items = [cast(TaskItem, values.pop("item")) for values in tasks]
    insert_all(
        connection,
        t.task,
        [values | {"prompt_id": item.prompt_id} for values, item in zip(tasks, items, strict=True)],
    )
    insert_all(
        connection,
        t.task_completion,
        [
            {"task_id": values["id"], "position": position, "completion_id": completion_id}
            for values, item in zip(tasks, items, strict=True)
            for position, completion_id in enumerate(item.completion_ids)
        ],
    )


def known_tasks(connection: Connection, task_set: str, kind: str) -> dict[str, int]:
    """Return task id -> overlap of a set; ValueError where the set holds the other kind."""
    query = select(t.task.c.id, t.task.c.overlap, t.task.c.kind).where(t.task.c.task_set == task_set)
    rows = connection.execute(query).all()
    if rows and rows[0].kind != kind:
        raise ValueError(f"task set {task_set!r} holds tasks of kind {rows[0].kind!r}, not {kind!r}")
    return {row.id: row.overlap for row in rows}


def check_items(connection: Connection, kind: TaskKind, items: Sequence[TaskItem]) -> None:
    """Refuse items whose completions are too few, repeated, unknown or of another prompt."""
    require(connection, t.prompt, (item.prompt_id for item in items))
    completions = require(connection, t.completion, (key for item in items for key in item.completion_ids))
    for item in items:
        if kind == "demonstrate" and item.completion_ids:
            raise ValueError(f"prompt {item.prompt_id}: a demonstration is written without completions in sight")
        if kind == "compare" and len(item.completion_ids) < 2:
            raise ValueError(f"prompt {item.prompt_id}: a comparison needs at least 2 completions")
        repeated = [key for key, count in Counter(item.completion_ids).items() if count > 1]
        if repeated:
            raise ValueError(f"prompt {item.prompt_id}: completion {repeated[0]} is given twice")
        for key in item.completion_ids:
            if completions[key]["prompt_id"] != item.prompt_id:
                raise ValueError(
                    f"completion {key} answers prompt {completions[key]['prompt_id']}, not {item.prompt_id}"
                )


def items(connection: Connection, task_set: str) -> list[TaskItem]:
    """Return what a task set asks, in the order in which it was opened, each with its overlap."""
    check_task_sets(connection, [task_set])
    shown = t.task_completion
    query = (
        select(t.task.c.id, t.task.c.prompt_id, t.task.c.overlap, shown.c.completion_id)
        .join_from(t.task, shown, shown.c.task_id == t.task.c.id, isouter=True)
        .where(t.task.c.task_set == task_set)
        .order_by(t.task.c.position, shown.c.position)
    )
    found: list[TaskItem] = []
    for _, rows in groupby(connection.execute(query), key=lambda row: row.id):
        first, *others = rows
        completions = (first.completion_id, *(row.completion_id for row in others)) if first.completion_id else ()
        found.append(TaskItem(first.prompt_id, completions, first.overlap))
    return found


def task_set_kinds(connection: Connection) -> dict[str, TaskKind]:
    """Return task set -> kind, sorted by name."""
    query = select(t.task.c.task_set, func.min(t.task.c.kind)).group_by(t.task.c.task_set).order_by(t.task.c.task_set)
    return {row[0]: row[1] for row in connection.execute(query)}


def check_task_sets(connection: Connection, task_sets: Collection[str], kind: TaskKind | None = None) -> None:
    """Refuse a task set that does not exist, or one of another kind."""
    kinds = task_set_kinds(connection)
    for name in sorted(task_sets):
        if name not in kinds:
            known = ", ".join(kinds) or "none yet"
            raise ValueError(f"task set {name!r} is not in the store (there are: {known})")
        if kind is not None and kinds[name] != kind:
            raise ValueError(f"task set {name!r} holds tasks of kind {kinds[name]!r}, not {kind!r}")
