"""Gold: tasks of screening and calibration, and what researchers hold to be right on them, version by version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from instructloop.core.records import Cohort
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.catalogue import prompt_of
from instructloop.store.checks import check_time
from instructloop.store.claims import CALIBRATION
from instructloop.store.forms import checked_flags, checked_tiers
from instructloop.store.reading import completions_by_task
from instructloop.store.rows import TaskItem, TaskKind
from instructloop.store.screening_reports import Gold, GoldForm, GoldPurpose, GoldTask
from instructloop.store.tasks import open_tasks

SCREENING = "screening"
SCREENING_WRITING = "screening-writing"

PURPOSE_OF: Mapping[str, GoldPurpose] = {
    SCREENING: "screening",
    SCREENING_WRITING: "screening",
    CALIBRATION: "calibration",
}
"""The sets of tasks that are no work on the model's data: everyone of a cohort is to meet each of their tasks."""

NEWEST = select(func.max(p.gold.c.version)).where(p.gold.c.task_id == t.task.c.id).correlate(t.task).scalar_subquery()


def open_sets(
    connection: Connection,
    task_set: str,
    kind: TaskKind,
    items: Sequence[TaskItem],
    *,
    cohort: Cohort,
    num_people: int,
    by: str,
    now: datetime,
) -> int:
    """Open tasks that `num_people` people are to meet, those of the set that are open already too; return how many."""
    if PURPOSE_OF[task_set] == "screening" and cohort != "screening":
        raise ValueError(f"cohort {cohort!r}: screening tasks are for the cohort 'screening'")
    if PURPOSE_OF[task_set] == "calibration" and cohort not in ("train", "heldout"):
        raise ValueError(f"cohort {cohort!r}: calibration tasks are for the cohorts 'train' and 'heldout'")
    if num_people < 1:
        raise ValueError(f"num_people {num_people} must be at least 1")
    of_set = (t.task.c.task_set == task_set, t.task.c.cohort == cohort)
    widest = connection.execute(select(func.max(t.task.c.overlap)).where(*of_set)).scalar() or 0
    overlap = max(widest, num_people)
    connection.execute(update(t.task).where(*of_set).values(overlap=overlap))
    plain = [TaskItem(item.prompt_id, item.completion_ids) for item in items]
    num_new = open_tasks(connection, task_set, kind, plain, overlap=overlap, cohort=cohort, priority=0, now=now)
    details = {"cohort": cohort, "num_new": num_new, "num_people": overlap}
    record(connection, at=now, actor=by, action="gold_set.open", object_id=task_set, details=details)
    return num_new


def set_gold(connection: Connection, task_id: str, form: GoldForm, *, by: str, now: datetime) -> int:
    """Add the next version of a comparison's gold and return its number; the same as the newest adds nothing."""
    check_time(now)
    query = select(t.task.c.task_set, t.task.c.kind).where(t.task.c.id == task_id).with_for_update()
    task = connection.execute(query).first()
    if task is None or task.task_set not in PURPOSE_OF or task.kind != "compare":
        raise ValueError(f"task {task_id!r} is no comparison of screening or calibration")
    shown = [completion.id for completion in completions_by_task(connection, [task_id])[task_id]]
    tiers, flags = checked_gold(form, shown)
    old = find(connection, task_id)
    if old is not None and (old.tiers, old.flags, old.why) == (tiers, flags, form.why.strip()):
        return old.version
    version = 1 if old is None else old.version + 1
    values = {"task_id": task_id, "version": version, "purpose": PURPOSE_OF[task.task_set]}
    content = {"tiers": [list(tier) for tier in tiers], "flags": flags, "why": form.why.strip()}
    connection.execute(insert(p.gold), values | content | {"created_by": by, "created_at": now})
    details = {"version": version}
    record(connection, at=now, actor=by, action="gold.set", object_id=task_id, after=content, details=details)
    return version


def checked_gold(
    form: GoldForm, shown: Sequence[str]
) -> tuple[tuple[tuple[str, ...], ...], dict[str, dict[str, bool | None]]]:
    """Return tiers over all completions or none, and flags of those that have any; ValueError where it says nothing."""
    unknown = sorted(form.flags.keys() - set(shown))
    if unknown:
        raise ValueError(f"flags: completion {unknown[0]} was not shown")
    tiers = checked_tiers(form.tiers, shown) if any(form.tiers) else ()
    flags = {key: checked_flags(key, given) for key, given in sorted(form.flags.items())}
    if not tiers and not flags:
        raise ValueError("gold: it needs an order of the completions, or flags")
    return tiers, flags


def find(connection: Connection, task_id: str, version: int | None = None) -> Gold | None:
    """Return one version of a task's gold, the newest for None."""
    query = select(p.gold).where(p.gold.c.task_id == task_id).order_by(p.gold.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(p.gold.c.version == version)
    row = connection.execute(query).mappings().first()
    return None if row is None else gold_of(row)


def gold_of(row: RowMapping) -> Gold:
    """Return the gold in a row."""
    return Gold(
        task_id=row["task_id"],
        version=row["version"],
        purpose=row["purpose"],
        tiers=tuple(tuple(tier) for tier in row["tiers"]),
        flags={key: dict(flags) for key, flags in row["flags"].items()},
        why=row["why"],
        created_by=row["created_by"],
        created_at=row["created_at"],
    )


def newest(connection: Connection, purpose: GoldPurpose) -> dict[str, Gold]:
    """Return task -> its newest gold of a purpose."""
    query = (
        select(p.gold)
        .join(t.task, t.task.c.id == p.gold.c.task_id)
        .where(p.gold.c.purpose == purpose, p.gold.c.version == NEWEST)
    )
    return {row["task_id"]: gold_of(row) for row in connection.execute(query).mappings()}


def tasks(connection: Connection, purpose: GoldPurpose | None) -> list[GoldTask]:
    """Return the tasks of screening and calibration in the order in which they were opened."""
    sets = [name for name, of in PURPOSE_OF.items() if purpose in (None, of)]
    query = (
        select(
            t.task.c.id.label("task_id"), t.task.c.task_set, t.task.c.kind.label("task_kind"), t.task.c.cohort,
            t.task.c.num_submitted, t.prompt,
        )
        .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
        .where(t.task.c.task_set.in_(sets))
        .order_by(t.task.c.opened_at, t.task.c.task_set, t.task.c.position)
    )  # fmt: skip
    rows: Sequence[RowMapping] = connection.execute(query).mappings().all()
    completions = completions_by_task(connection, [row["task_id"] for row in rows])
    gold: dict[str, Any] = newest(connection, "screening") | newest(connection, "calibration")
    return [
        GoldTask(
            id=row["task_id"],
            task_set=row["task_set"],
            kind=row["task_kind"],
            cohort=row["cohort"],
            purpose=PURPOSE_OF[row["task_set"]],
            prompt=prompt_of(row),
            completions=tuple(completions.get(row["task_id"], ())),
            num_submitted=row["num_submitted"],
            gold=gold.get(row["task_id"]),
        )
        for row in rows
    ]
