"""Demonstrations and rankings from outside: they become prompts, completions, finished tasks and submissions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, update

from instructloop.core.records import Cohort, Completion, Prompt, content_id
from instructloop.store import tables as t
from instructloop.store.bulk import Values, insert_all, rows_by_id
from instructloop.store.catalogue import add_completions, add_labeler, add_prompts
from instructloop.store.checks import check_text, check_time
from instructloop.store.forms import checked_form
from instructloop.store.rows import (
    ComparisonForm,
    Imported,
    ImportedDemonstration,
    ImportedRanking,
    Labeler,
    TaskItem,
    TaskKind,
)
from instructloop.store.tasks import insert_tasks, known_tasks, task_id, task_values

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Answer:
    """One row made ready: what was asked, who answered, and the rows that the answer becomes."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    labeler: str
    content: str
    rows: dict[str, list[Values]]


@dataclass(frozen=True, slots=True)
class Import:
    """What all rows of one import share."""

    task_set: str
    kind: TaskKind
    origin: str
    labeler: str
    cohort: Cohort
    now: datetime
    dropped: Counter[str] = field(default_factory=Counter[str])


def import_demonstrations(connection: Connection, rows: Iterable[ImportedDemonstration], common: Import) -> Imported:
    """Store demonstrations from outside and return how many were read, kept and dropped, by reason."""

    def answer(row: ImportedDemonstration) -> Answer:
        check_text("prompt", row.prompt.text)
        check_text("completion", row.text)
        labeler = row.labeler or common.labeler
        return Answer(row.prompt, (), labeler, row.text, {"demonstration": [{"text": row.text}]})

    return import_rows(connection, rows, answer, common)


def import_rankings(connection: Connection, rows: Iterable[ImportedRanking], common: Import) -> Imported:
    """Store rankings from outside and return how many were read, kept and dropped, by reason."""

    def answer(row: ImportedRanking) -> Answer:
        check_text("prompt", row.prompt.text)
        completions = completions_of(row, common.origin)
        ids = [completion.id for completion in completions]
        for position in (position for tier in row.tiers for position in tier):
            if not 0 <= position < len(ids):
                raise ValueError("tiers: a position outside the completions")
        form = ComparisonForm(
            ratings=dict(zip(ids, row.ratings or [None] * len(ids), strict=True)),
            flags={},
            tiers=[[ids[position] for position in tier] for tier in row.tiers],
        )
        tiers, ratings = checked_form(form, ids)
        content = json.dumps([tiers, ratings], sort_keys=True)
        ordered = tuple(sorted(completions, key=lambda completion: completion.id))  # given order may be best first
        labeler = row.labeler or common.labeler
        return Answer(row.prompt, ordered, labeler, content, {"comparison": [{"tiers": tiers}], "rating": ratings})

    return import_rows(connection, rows, answer, common)


def completions_of(row: ImportedRanking, origin: str) -> list[Completion]:
    """Return the row's completions; the same text by the same writer is the same completion in every row."""
    policies = row.policies or ["unknown"] * len(row.completions)
    if len(row.completions) < 2:
        raise ValueError("fewer than 2 completions")
    if len(policies) != len(row.completions) or (row.ratings and len(row.ratings) != len(row.completions)):
        raise ValueError("policies or ratings are not as many as completions")
    if len(set(row.completions)) < len(row.completions):
        raise ValueError("two equal completions")
    for text in row.completions:
        check_text("completion", text)
    return [
        Completion.make(row.prompt.id, text, policy=policy, policy_run=origin, index=0, sampling={}, finished=True)
        for text, policy in zip(row.completions, policies, strict=True)
    ]


def import_rows(
    connection: Connection, rows: Iterable[Row], answer: Callable[[Row], Answer], common: Import
) -> Imported:
    """Store the answers that rows make, in one transaction; a row that is no good is dropped and counted.

    A row that came before, in this import or an earlier one, is dropped as "repeated"; a second answer of one labeler
    to one question as "another answer of the same labeler".
    """
    check_time(common.now)
    check_text("task set", common.task_set)
    answers: list[Answer] = []
    num_read = 0
    for row in rows:
        num_read += 1
        try:
            answers.append(answer(row))
        except ValueError as error:
            common.dropped[without_ids(error)] += 1
    num_kept = store_answers(connection, answers, common)
    return Imported(num_read, num_kept, dict(sorted(common.dropped.items())))


def without_ids(error: ValueError) -> str:
    """Return an error's text as a reason to count by: what differs from row to row is cut off."""
    text = str(error)
    return (
        "tiers do not cover the completions, each once" if text.startswith("tiers") else text.split(" of completion")[0]
    )


def store_answers(connection: Connection, answers: Sequence[Answer], common: Import) -> int:
    """Insert all rows of the answers that are new and return their number."""
    add_prompts(connection, (answer.prompt for answer in answers))
    add_completions(connection, (completion for answer in answers for completion in answer.completions))
    fresh = new_answers(connection, answers, common)
    for labeler in sorted({answer.labeler for _, _, answer in fresh}):
        add_labeler(connection, Labeler(labeler, common.cohort, common.origin), common.now)
    add_slots(connection, fresh, common)
    rows: defaultdict[str, list[Values]] = defaultdict(list)
    for task, assignment_id, answer in fresh:
        submission_id = content_id("submission", assignment_id, "", answer.content)
        owner = {"id": assignment_id, "task_id": task, "labeler_id": answer.labeler}
        rows["assignment"].append(owner | {"state": "submitted", "shown": [], "claimed_at": common.now})
        submission = {"id": submission_id, "assignment_id": assignment_id, "idempotency_key": "import"}
        rows["submission"].append(submission | {"origin": common.origin, "submitted_at": common.now})
        for table, values in answer.rows.items():
            rows[table] += [{"submission_id": submission_id} | one for one in values]
    for table in (t.assignment, t.submission, t.demonstration, t.comparison, t.rating):
        insert_all(connection, table, rows[table.name])
    return len(fresh)


def new_answers(connection: Connection, answers: Sequence[Answer], common: Import) -> list[tuple[str, str, Answer]]:
    """Return (task id, assignment id, answer) of the answers that are not stored yet; count the others as dropped."""
    found: dict[str, tuple[str, str, Answer]] = {}
    contents: dict[str, str] = {}
    for answer in answers:
        item = TaskItem(answer.prompt.id, tuple(completion.id for completion in answer.completions))
        task = task_id(common.task_set, common.kind, common.cohort, item)
        assignment_id = content_id("assignment", task, answer.labeler)
        if assignment_id in found:
            is_same = contents[assignment_id] == answer.content
            common.dropped["repeated" if is_same else "another answer of the same labeler"] += 1
        else:
            found[assignment_id] = (task, assignment_id, answer)
            contents[assignment_id] = answer.content
    known = rows_by_id(connection, t.assignment, found)
    given = {key: content_id("submission", key, "", contents[key]) for key in known}
    stored = rows_by_id(connection, t.submission, given.values())
    for key in known:
        common.dropped["repeated" if given[key] in stored else "another answer of the same labeler"] += 1
        del found[key]
    return list(found.values())


def add_slots(connection: Connection, fresh: Sequence[tuple[str, str, Answer]], common: Import) -> None:
    """Open one finished task per question, or widen a known one, so that each answer has its slot."""
    known = known_tasks(connection, common.task_set, common.kind)
    tasks: dict[str, dict[str, Any]] = {}
    wider: Counter[str] = Counter()
    for task, _, answer in fresh:
        if task in known:
            wider[task] += 1
            continue
        if task not in tasks:
            item = TaskItem(answer.prompt.id, tuple(completion.id for completion in answer.completions))
            place = {"priority": 0, "position": len(known) + len(tasks)}
            values = task_values(task, common.task_set, common.kind, common.cohort, **place, overlap=0, now=common.now)
            tasks[task] = values | {"item": item}
        for counter in ("overlap", "num_held", "num_submitted"):
            tasks[task][counter] += 1
    insert_tasks(connection, list(tasks.values()))
    if wider:
        widen = update(t.task).where(t.task.c.id == bindparam("task"))
        counters = (t.task.c.overlap, t.task.c.num_held, t.task.c.num_submitted)
        query = widen.values({column: column + bindparam("more") for column in counters})
        connection.execute(query, [{"task": task, "more": more} for task, more in sorted(wider.items())])


def check_origin(origin: str) -> None:
    """Refuse an origin that does not say that it is an import."""
    if not origin.startswith("import:") or not origin.removeprefix("import:").strip():
        raise ValueError(f"origin {origin!r} of an import must be import:NAME")
