"""What labelers answered, read back: latest revisions of accepted submissions, and where task sets stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, case, func, select

from instructloop.core.records import COHORTS, Completion
from instructloop.store import tables as t
from instructloop.store.bulk import ROWS_PER_QUERY
from instructloop.store.catalogue import completion_of, prompt_of
from instructloop.store.checks import check_word
from instructloop.store.rows import DemonstrationRow, Progress, RankingRow, TaskKind, Tiers
from instructloop.store.tasks import check_task_sets, task_set_kinds

newer = t.submission.alias("newer")
IS_SUPERSEDED: ColumnElement[bool] = (
    select(newer.c.id).where(newer.c.revision_of == t.submission.c.id).correlate(t.submission).exists()
)
SUBMISSIONS = (
    t.submission.join(t.assignment, t.assignment.c.id == t.submission.c.assignment_id)
    .join(t.task, t.task.c.id == t.assignment.c.task_id)
    .join(t.labeler, t.labeler.c.id == t.assignment.c.labeler_id)
    .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
)
COLUMNS = (
    t.submission.c.id,
    t.submission.c.origin,
    t.assignment.c.labeler_id,
    t.assignment.c.shown,
    t.labeler.c.cohort,
    t.task.c.id.label("task_id"),
    t.task.c.task_set,
    *(column.label(f"prompt_{column.name}") for column in t.prompt.c),
)


def check_selection(
    connection: Connection, task_sets: Collection[str], cohorts: Collection[str], kind: TaskKind
) -> None:
    """Refuse a string where a collection of names is meant, unknown names and sets of another kind."""
    check_collection("task_sets", task_sets)
    check_collection("cohorts", cohorts)
    for cohort in cohorts:
        check_word("cohorts: cohort", cohort, COHORTS)
    check_task_sets(connection, task_sets, kind)


def check_collection(field: str, names: Collection[str]) -> None:
    """Refuse one name where several are meant, and none."""
    if isinstance(names, str):
        raise ValueError(f"{field} {names!r} must be a collection of names, not one name")
    if not names:
        raise ValueError(f"{field} must name at least one")


def accepted(answer: Table, task_sets: Collection[str], cohorts: Collection[str]) -> Select[Any]:
    """Return the query for the latest accepted answers of a table, sorted by id.

    The cohorts hold for the labeler now and for the task when it was asked: who was held out, or a candidate, and is in
    another cohort today does not carry those judgements along.
    """
    column = answer.c["text" if answer is t.demonstration else "tiers"].label("answer")
    return (
        select(*COLUMNS, column)
        .select_from(SUBMISSIONS.join(answer, answer.c.submission_id == t.submission.c.id))
        .where(
            t.task.c.task_set.in_(sorted(task_sets)),
            t.labeler.c.cohort.in_(sorted(cohorts)),
            t.task.c.cohort.in_(sorted(cohorts)),
            t.assignment.c.state == "submitted",
            ~IS_SUPERSEDED,
        )
        .order_by(t.submission.c.id)
    )


def demonstrations(
    connection: Connection, task_sets: Collection[str], cohorts: Collection[str]
) -> Iterator[DemonstrationRow]:
    """Yield demonstrations of these cohorts, sorted by id."""
    check_selection(connection, task_sets, cohorts, "demonstrate")
    query = accepted(t.demonstration, task_sets, cohorts).execution_options(yield_per=ROWS_PER_QUERY)
    for row in connection.execute(query).mappings():
        yield DemonstrationRow(
            id=row["id"],
            prompt=prompt_of(row, "prompt_"),
            text=row["answer"],
            labeler=row["labeler_id"],
            cohort=row["cohort"],
            origin=row["origin"],
            task_set=row["task_set"],
        )


def rankings(connection: Connection, task_sets: Collection[str], cohorts: Collection[str]) -> Iterator[RankingRow]:
    """Yield comparisons of these cohorts, sorted by id."""
    check_selection(connection, task_sets, cohorts, "compare")
    query = accepted(t.comparison, task_sets, cohorts).execution_options(yield_per=ROWS_PER_QUERY)
    for part in connection.execute(query).mappings().partitions():
        completions = completions_by_task(connection, [row["task_id"] for row in part])
        ratings = ratings_by_submission(connection, [row["id"] for row in part])
        for row in part:
            yield ranking_of(row, completions[row["task_id"]], ratings[row["id"]])


def ranking_of(row: RowMapping, completions: Sequence[Completion], ratings: Sequence[RowMapping]) -> RankingRow:
    """Return the ranking of one submission."""
    tiers: Tiers = tuple(tuple(tier) for tier in row["answer"])
    return RankingRow(
        id=row["id"],
        prompt=prompt_of(row, "prompt_"),
        labeler=row["labeler_id"],
        cohort=row["cohort"],
        origin=row["origin"],
        task_set=row["task_set"],
        completions=tuple(completions),
        shown=tuple(row["shown"]),
        tiers=tiers,
        ratings={rating["completion_id"]: rating["rating"] for rating in ratings},
        flags={rating["completion_id"]: dict(rating["flags"]) for rating in ratings},
        notes={rating["completion_id"]: rating["note"] for rating in ratings if rating["note"]},
    )


def completions_by_task(connection: Connection, task_ids: Sequence[str]) -> Mapping[str, list[Completion]]:
    """Return the completions of each task, in the task's own order."""
    query = (
        select(t.task_completion.c.task_id, t.completion)
        .join(t.completion, t.completion.c.id == t.task_completion.c.completion_id)
        .where(t.task_completion.c.task_id.in_(sorted(set(task_ids))))
        .order_by(t.task_completion.c.task_id, t.task_completion.c.position)
    )
    found: defaultdict[str, list[Completion]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["task_id"]].append(completion_of(row))
    return found


def ratings_by_submission(connection: Connection, ids: Sequence[str]) -> Mapping[str, list[RowMapping]]:
    """Return the rating rows of each submission, sorted by completion."""
    query = (
        select(t.rating)
        .where(t.rating.c.submission_id.in_(list(ids)))
        .order_by(t.rating.c.submission_id, t.rating.c.completion_id)
    )
    found: defaultdict[str, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["submission_id"]].append(row)
    return found


def left_out(connection: Connection, task_sets: Collection[str], cohorts: Collection[str]) -> dict[str, int]:
    """Return how many submissions of these task sets are not among the accepted of these cohorts, by reason.

    Each is counted once: by its labeler's cohort first, then by that of its task, then as surplus, then as superseded.
    """
    reason = case(
        (t.labeler.c.cohort.not_in(sorted(cohorts)), "cohort " + t.labeler.c.cohort),
        (t.task.c.cohort.not_in(sorted(cohorts)), "task of cohort " + t.task.c.cohort),
        (t.assignment.c.state != "submitted", t.assignment.c.state),
        (IS_SUPERSEDED, "superseded"),
        else_="",
    ).label("reason")
    query = (
        select(reason, func.count())
        .select_from(SUBMISSIONS)
        .where(t.task.c.task_set.in_(sorted(task_sets)))
        .group_by(reason)
        .order_by(reason)
    )
    return {row[0]: row[1] for row in connection.execute(query) if row[0]}


def progress(connection: Connection, task_set: str) -> Progress:
    """Return where a task set stands; ValueError for an unknown one."""
    check_task_sets(connection, [task_set])
    is_aside = (t.task.c.num_skipped >= t.SKIPS_BEFORE_SET_ASIDE) & (t.task.c.num_held < t.task.c.overlap)
    remaining = case(
        (is_aside, t.task.c.num_held - t.task.c.num_submitted), else_=t.task.c.overlap - t.task.c.num_submitted
    )
    totals = connection.execute(
        select(
            func.min(t.task.c.kind).label("kind"),
            func.count().label("num_tasks"),
            func.sum(t.task.c.overlap).label("wanted"),
            func.sum(case((is_aside, 1), else_=0)).label("set_aside"),
            func.sum(remaining).label("remaining"),
        ).where(t.task.c.task_set == task_set)
    ).one()
    assignments = t.assignment.join(t.task, t.task.c.id == t.assignment.c.task_id)
    by_state = grouped(connection, t.assignment.c.state, assignments, task_set)
    submitted = t.assignment.c.state == "submitted"
    skipped = t.assignment.c.state == "skipped"
    return Progress(
        task_set=task_set,
        kind=totals.kind,
        num_tasks=totals.num_tasks,
        num_judgements_wanted=totals.wanted,
        num_submitted=by_state.get("submitted", 0),
        num_leased=by_state.get("leased", 0),
        num_skipped=by_state.get("skipped", 0),
        num_surplus=by_state.get("surplus", 0),
        num_set_aside=totals.set_aside,
        num_remaining=totals.remaining,
        labelers=list(grouped(connection, t.assignment.c.labeler_id, assignments, task_set, submitted).items()),
        reasons=grouped(connection, t.assignment.c.skip_reason, assignments, task_set, skipped),
    )


def grouped(
    connection: Connection, column: ColumnElement[Any], source: Any, task_set: str, *where: ColumnElement[bool]
) -> dict[str, int]:
    """Return value -> number of assignments of a task set, sorted by value."""
    query = select(column, func.count()).select_from(source).where(t.task.c.task_set == task_set, *where)
    return {row[0]: row[1] for row in connection.execute(query.group_by(column).order_by(column))}


def all_progress(connection: Connection) -> list[Progress]:
    """Return where each task set stands, sorted by name."""
    return [progress(connection, name) for name in task_set_kinds(connection)]
