"""How far labelers agree, from the judgements in the store: pairwise, by pair and week, and field by field."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, func, select

from instructloop.core.agreement import Ties, agreement_by
from instructloop.core.rankings import Interval
from instructloop.core.records import COHORTS, FLAGS
from instructloop.core.reliability import ac1_interval, alpha_interval, kappa_interval, same_share
from instructloop.store import tables as t
from instructloop.store.bulk import ROWS_PER_QUERY
from instructloop.store.checks import check_word
from instructloop.store.gold import PURPOSE_OF
from instructloop.store.judged import SUBMITTED, JudgedRanking, judged
from instructloop.store.reading import IS_SUPERSEDED, check_collection
from instructloop.store.reports import TIE_RULES, AgreementReport, FieldAgreement
from instructloop.store.tasks import check_task_sets, task_set_kinds

RATING = "rating"
Meaning = str | tuple[str, str] | date | None
"""What a meeting counts for: a labeler, a pair of them, a week, or (None) the whole."""


def report(
    connection: Connection, task_sets: Collection[str] | None, cohorts: Collection[str] | None, ties: Ties
) -> AgreementReport:
    """Return how far labelers agree on these sets, as asked of these cohorts."""
    check_word("ties", ties, TIE_RULES)
    names, asked = selection(connection, task_sets, cohorts)
    rankings = judged(connection, task_sets=names, cohorts=asked)
    found = agreement_by(rankings, meanings, ties=ties)
    weeks = sorted((key, value) for key, value in found.items() if isinstance(key, date))
    pairs = sorted((*key, value) for key, value in found.items() if isinstance(key, tuple))
    return AgreementReport(
        ties=ties,
        tie_rule=TIE_RULES[ties],
        num_judgements=len(rankings),
        overall=found.get(None),
        by_labeler=tuple(sorted((key, value) for key, value in found.items() if isinstance(key, str))),
        by_pair=tuple(pairs),
        by_week=tuple(weeks),
        fields=fields(connection, names, asked),
    )


def selection(
    connection: Connection, task_sets: Collection[str] | None, cohorts: Collection[str] | None
) -> tuple[list[str], list[str]]:
    """Return the sets and cohorts meant: None is all comparisons that are work, all cohorts."""
    if task_sets is None:
        names = [name for name, kind in task_set_kinds(connection).items() if kind == "compare"]
        task_sets = [name for name in names if name not in PURPOSE_OF]
    else:
        check_collection("task_sets", task_sets)
        check_task_sets(connection, task_sets, "compare")
    if cohorts is not None:
        check_collection("cohorts", cohorts)
        for cohort in cohorts:
            check_word("cohorts: cohort", cohort, COHORTS)
    return sorted(task_sets), sorted(COHORTS if cohorts is None else cohorts)


def meanings(a: JudgedRanking, b: JudgedRanking) -> list[Meaning]:
    """Return what a meeting of two judgements counts for."""
    first, second = sorted((a.labeler, b.labeler))
    week = monday(max(a.submitted_at, b.submitted_at))
    return [None, first, second, (first, second), week]


def monday(time: datetime) -> date:
    """Return the Monday of a time's week, in UTC as the store keeps it."""
    return time.date() - timedelta(days=time.weekday())


# Field by field


@dataclass(frozen=True, slots=True)
class Judged:
    """What labelers said of one completion that two at least judged: labeler -> values in the order of fields."""

    prompt_id: str
    values: dict[str, tuple[float, ...]]


def fields(connection: Connection, task_sets: Sequence[str], cohorts: Sequence[str]) -> tuple[FieldAgreement, ...]:
    """Return the agreement on the rating and on each flag; NaN in the tables is a question not answered."""
    items = judged_twice(connection, task_sets, cohorts)
    return tuple(field(name, place, items) for place, name in enumerate((RATING, *FLAGS)))


def judged_twice(connection: Connection, task_sets: Sequence[str], cohorts: Sequence[str]) -> list[Judged]:
    """Return what was said of the completions that more than one labeler judged; of one labeler the newest."""
    chosen = (
        t.task.c.task_set.in_(task_sets),
        t.task.c.cohort.in_(cohorts),
        t.assignment.c.state == "submitted",
        ~IS_SUPERSEDED,
    )
    source = SUBMITTED.join(t.rating, t.rating.c.submission_id == t.submission.c.id)
    twice = (
        select(t.rating.c.completion_id)
        .select_from(source)
        .where(*chosen)
        .group_by(t.rating.c.completion_id)
        .having(func.count() > 1)
    )
    query = (
        select(
            t.rating.c.completion_id, t.task.c.prompt_id, t.assignment.c.labeler_id, t.rating.c.rating, t.rating.c.flags
        )
        .select_from(source)
        # The bare column would let SQLite look up every one of `twice` for every submission: minutes, not a second.
        .where(*chosen, func.coalesce(t.rating.c.completion_id, "").in_(twice))
        .order_by(t.submission.c.submitted_at, t.submission.c.id)
    )
    items: dict[str, Judged] = {}
    for row in connection.execute(query.execution_options(yield_per=ROWS_PER_QUERY)):
        item = items.setdefault(row.completion_id, Judged(row.prompt_id, {}))
        item.values[row.labeler_id] = tuple(
            math.nan if value is None else float(value) for value in (row.rating, *(row.flags.get(f) for f in FLAGS))
        )
    return [item for item in items.values() if len(item.values) > 1]


def field(name: str, place: int, items: Sequence[Judged]) -> FieldAgreement:
    """Return the agreement on one field, over the completions on which two labelers answered it."""
    level = "ordinal" if name == RATING else "nominal"
    columns: list[list[float]] = []
    prompts: list[str] = []
    labelers = set[str]()
    for item in items:
        said = {labeler: values[place] for labeler, values in item.values.items() if not math.isnan(values[place])}
        if len(said) > 1:
            columns.append(list(said.values()))
            prompts.append(item.prompt_id)
            labelers |= said.keys()
    table = slots(columns)
    said_values = [value for column in columns for value in column]
    differ, is_even = len(set(said_values)) > 1, len({len(column) for column in columns}) == 1

    def measured(of: Callable[[], Interval], is_possible: bool) -> Interval | None:
        return of() if columns and is_possible else None

    return FieldAgreement(
        field=name,
        level=level,
        alpha=measured(lambda: alpha_interval(table, level, prompts), differ),
        kappa=measured(lambda: kappa_interval(table, prompts), differ and is_even),
        ac1=measured(lambda: ac1_interval(table, prompts), name != RATING),
        share=measured(lambda: same_share(table, prompts), True),
        num_labelers=len(labelers),
        num_true_fraction=sum(said_values) / len(said_values) if said_values and name != RATING else None,
    )


def slots(columns: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return ratings[slot, item], filled up with NaN: who rated does not matter, so a row is no labeler."""
    most = max((len(column) for column in columns), default=0)
    filled = [[*column, *[math.nan] * (most - len(column))] for column in columns]
    return [list(row) for row in zip(*filled, strict=True)]
