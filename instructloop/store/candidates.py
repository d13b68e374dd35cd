"""Candidates: grades of their demonstrations, and the report on the paper's criteria (appendix B.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from statistics import median

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from instructloop.core import screening as criteria
from instructloop.core.agreement import agreement_by
from instructloop.core.rankings import Interval
from instructloop.core.records import Ranking
from instructloop.core.reliability import ac1_interval
from instructloop.core.screening import PAPER_CUT_OFFS, CutOffs
from instructloop.store import gold
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.catalogue import prompt_of
from instructloop.store.checks import check_time
from instructloop.store.judged import SUBMITTED, WORKED, JudgedRanking, flags_of, judged
from instructloop.store.pace import IS_FIRST
from instructloop.store.reading import IS_SUPERSEDED
from instructloop.store.reports import TIE_RULES
from instructloop.store.screening_reports import Gold, ScreeningReport, ToGrade
from instructloop.store.settings import set_setting, setting

CUT_OFFS = "screening.cut_offs"
SETS = (gold.SCREENING, gold.SCREENING_WRITING)
SECONDS = func.coalesce(p.circumstance.c.active_seconds, t.submission.c.seconds)
"""How long a submission took: active time where the app measured it."""


def cut_offs(connection: Connection) -> CutOffs:
    """Return the cut-offs that apply."""
    value = setting(connection, CUT_OFFS)
    return PAPER_CUT_OFFS if value is None else CutOffs(**value)


def set_cut_offs(connection: Connection, values: CutOffs, *, by: str, now: datetime) -> None:
    """Set the cut-offs that apply from now on."""
    set_setting(connection, CUT_OFFS, asdict(values), by=by, now=now)


# Grades


def to_grade(connection: Connection, by: str) -> list[ToGrade]:
    """Return candidates' newest demonstrations without a grade of this account, longest waiting first."""
    graded = select(p.grade.c.submission_id).where(p.grade.c.account_id == by)
    query = (
        select(t.submission.c.id.label("submission_id"), t.demonstration.c.text.label("demonstration"), t.prompt)
        .select_from(SUBMITTED.join(t.demonstration, t.demonstration.c.submission_id == t.submission.c.id))
        .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
        .where(
            t.task.c.task_set == gold.SCREENING_WRITING,
            t.assignment.c.state.in_(WORKED),
            ~IS_SUPERSEDED,
            t.submission.c.id.not_in(graded),
        )
        .order_by(t.submission.c.submitted_at, t.submission.c.id)
    )
    rows = connection.execute(query).mappings().all()
    grades = grades_of(connection, [row["submission_id"] for row in rows])
    return [
        ToGrade(row["submission_id"], prompt_of(row), row["demonstration"], grades.get(row["submission_id"], {}))
        for row in rows
    ]


def grades_of(connection: Connection, submission_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return submission -> account -> grade."""
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(p.grade).where(p.grade.c.submission_id.in_(list(submission_ids)))):
        found.setdefault(row.submission_id, {})[row.account_id] = row.grade
    return found


def grade(connection: Connection, submission_id: str, value: int, *, by: str, now: datetime) -> None:
    """Grade a demonstration of screening; the same account's later grade replaces the earlier."""
    check_time(now)
    if isinstance(value, bool) or value not in range(1, 8):
        raise ValueError(f"grade {value!r} must be a whole number from 1 to 7")
    query = select(t.task.c.task_set).select_from(SUBMITTED).where(t.submission.c.id == submission_id)
    if connection.execute(query).scalar() != gold.SCREENING_WRITING:
        raise ValueError(f"submission {submission_id!r} is no demonstration of screening")
    key = (p.grade.c.submission_id == submission_id, p.grade.c.account_id == by)
    old = connection.execute(select(p.grade.c.grade).where(*key).with_for_update()).scalar()
    values = {"grade": value, "graded_at": now}
    if old is None:
        connection.execute(insert(p.grade), {"submission_id": submission_id, "account_id": by} | values)
    else:
        connection.execute(update(p.grade).where(*key).values(values))
    before = None if old is None else {"grade": old}
    record(
        connection, at=now, actor=by, action="grade.set", object_id=submission_id, before=before, after={"grade": value}
    )


# Reports


def report(connection: Connection, labeler_id: str, limits: CutOffs | None) -> ScreeningReport:
    """Return how a candidate does on what they submitted so far."""
    person = person_of(connection, labeler_id)
    truths = gold.newest(connection, "screening")
    given = [
        one
        for one in judged(connection, task_sets=[gold.SCREENING], labeler=labeler_id, states=WORKED)
        if one.task_id in truths
    ]
    in_order = [(one, truths[one.task_id]) for one in given if truths[one.task_id].tiers]
    flags, ac1 = flag_figures(connection, given, truths)
    grades, num_to_grade = demonstration_grades(connection, labeler_id)
    num_submitted, seconds = work_of(connection, labeler_id)
    return ScreeningReport(
        labeler=labeler_id,
        cut_offs=limits or cut_offs(connection),
        num_tasks=connection.execute(select(func.count()).where(t.task.c.task_set.in_(SETS))).scalar_one(),
        num_submitted=num_submitted,
        num_gold=len(given),
        flags=flags,
        flags_ac1=ac1,
        rankings=agreement_with_gold(in_order),
        kendall_tau=criteria.kendall_tau_mean([one for one, _ in in_order], as_rankings(in_order)),
        grade=criteria.demonstration_grade([g for g, _ in grades], [prompt for _, prompt in grades])
        if grades
        else None,
        num_to_grade=num_to_grade,
        median_seconds=median(seconds) if seconds else None,
        languages=tuple(person["languages"] or ()),
        topics=person["topics"] or "",
        tie_rule=TIE_RULES["drop"],
    )


def person_of(connection: Connection, labeler_id: str) -> RowMapping:
    """Return a labeler's cohort and self-assessment; ValueError for an unknown one."""
    query = (
        select(t.labeler.c.cohort, p.account.c.languages, p.account.c.topics)
        .select_from(t.labeler.outerjoin(p.account, p.account.c.labeler_id == t.labeler.c.id))
        .where(t.labeler.c.id == labeler_id)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise ValueError(f"labeler {labeler_id!r} is not in the store")
    return row


def as_rankings(pairs: Sequence[tuple[JudgedRanking, Gold]]) -> list[Ranking]:
    """Return the gold of each pair as a researcher's ranking."""
    return [Ranking(one.prompt_id, "gold", truth.tiers) for one, truth in pairs]


def agreement_with_gold(pairs: Sequence[tuple[JudgedRanking, Gold]]) -> Interval | None:
    """Return the share of pairs that rankings order as gold does, ties left out; None where no pair is left."""
    given = [Ranking(one.prompt_id, one.labeler, one.tiers) for one, _ in pairs]
    return agreement_by([*given, *as_rankings(pairs)], lambda a, b: ("gold",), ties="drop").get("gold")


def flag_figures(
    connection: Connection, given: Sequence[JudgedRanking], truths: dict[str, Gold]
) -> tuple[Interval | None, Interval | None]:
    """Return the agreement on what is sensitive and its AC1, over completions whose flags are gold."""
    flags = flags_of(connection, (one.submission_id for one in given))
    mine: dict[str, dict[str, bool | None]] = {}
    true: dict[str, dict[str, bool | None]] = {}
    prompt_of_completion: dict[str, str] = {}
    for one in given:
        for key, truth in truths[one.task_id].flags.items():
            mine[key], true[key] = flags[one.submission_id][key], dict(truth)
            prompt_of_completion[key] = one.prompt_id
    if not true:
        return None, None
    table = [[float(criteria.is_sensitive(side[key])) for key in true] for side in (mine, true)]
    ac1 = ac1_interval(table, [prompt_of_completion[key] for key in true])
    return criteria.flag_agreement(mine, true, prompt_of_completion), ac1


def demonstration_grades(connection: Connection, labeler_id: str) -> tuple[list[tuple[int, str]], int]:
    """Return (grade, prompt) of a candidate's newest demonstrations, and how many nobody has graded."""
    query = (
        select(t.submission.c.id, t.task.c.prompt_id)
        .select_from(SUBMITTED)
        .where(
            t.assignment.c.labeler_id == labeler_id,
            t.task.c.task_set == gold.SCREENING_WRITING,
            t.assignment.c.state.in_(WORKED),
            ~IS_SUPERSEDED,
        )
        .order_by(t.submission.c.id)
    )
    prompt_by_id = {row.id: row.prompt_id for row in connection.execute(query)}
    grades = grades_of(connection, list(prompt_by_id))
    found = [(value, prompt_by_id[key]) for key in sorted(grades) for _, value in sorted(grades[key].items())]
    return found, len(prompt_by_id) - len(grades)


def work_of(connection: Connection, labeler_id: str) -> tuple[int, list[float]]:
    """Return how many screening tasks a candidate submitted, and the seconds that each took where known."""
    query = (
        select(SECONDS)
        .select_from(SUBMITTED.outerjoin(p.circumstance, p.circumstance.c.submission_id == t.submission.c.id))
        .where(
            t.assignment.c.labeler_id == labeler_id,
            t.task.c.task_set.in_(SETS),
            t.assignment.c.state.in_(WORKED),
            IS_FIRST,
        )
    )
    seconds = connection.execute(query).scalars().all()
    return len(seconds), [one for one in seconds if one is not None]
