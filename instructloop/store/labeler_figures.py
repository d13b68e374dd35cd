"""Labelers in figures: pace, agreement with others, position bias, ties, skips; all of them, or one in detail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import combinations
from statistics import median

from sqlalchemy import Connection, func, select

from instructloop.core.agreement import agreement_by
from instructloop.core.rankings import Interval, num_comparisons, proportion
from instructloop.store import drift
from instructloop.store import tables as t
from instructloop.store import tables_people as p
from instructloop.store.agreeing import monday
from instructloop.store.candidates import SECONDS
from instructloop.store.gold import PURPOSE_OF
from instructloop.store.judged import SUBMITTED, JudgedRanking, latest, rankings
from instructloop.store.pace import IS_FIRST
from instructloop.store.reports import LabelerDetail, LabelerRow, SubmissionHead, WeekPace
from instructloop.store.rows import Labeler

NUM_LAST = 20
"""So many submissions are listed, and so many calibration tasks are the recent ones."""

ENDED = ("submitted", "surplus", "skipped")
IS_WORK = t.task.c.task_set.not_in(sorted(PURPOSE_OF))


@dataclass(slots=True)
class Work:
    """What one labeler did: the state and prompt of each task ended, when and how long each submission was made."""

    ends: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    submissions: list[tuple[datetime, float | None]] = field(default_factory=list[tuple[datetime, float | None]])

    @property
    def seconds(self) -> list[float]:
        """Return the seconds of the submissions whose are known."""
        return [seconds for _, seconds in self.submissions if seconds is not None]


def labelers(connection: Connection, labeler_id: str | None = None) -> list[LabelerRow]:
    """Return the figures of everyone who was ever given a task, sorted by id; or those of one labeler.

    Comparisons of screening and calibration count in no agreement, bias or tie rate: others were not asked freely.
    """
    people = select(t.labeler.c.id, t.labeler.c.cohort, t.labeler.c.origin).order_by(t.labeler.c.id)
    judgements = latest().where(IS_WORK)
    if labeler_id is None:
        people = people.where(t.labeler.c.id.in_(select(t.assignment.c.labeler_id)))
    else:
        people = people.where(t.labeler.c.id == labeler_id)
        mine = select(t.task.c.prompt_id).join(t.assignment, t.assignment.c.task_id == t.task.c.id)
        judgements = judgements.where(t.task.c.prompt_id.in_(mine.where(t.assignment.c.labeler_id == labeler_id)))
    judged = rankings(connection, judgements)
    agreement = agreement_by(judged, lambda a, b: (a.labeler, b.labeler), ties="drop")
    by_labeler: defaultdict[str, list[JudgedRanking]] = defaultdict(list)
    for one in judged:
        by_labeler[one.labeler].append(one)
    work = work_of(connection, labeler_id)
    return [
        figures(Labeler(row[0], row[1], row[2]), work[row[0]], by_labeler[row[0]], agreement.get(row[0]))
        for row in connection.execute(people).all()
    ]


def work_of(connection: Connection, labeler_id: str | None) -> defaultdict[str, Work]:
    """Return labeler -> work, of one labeler or of all."""
    ends = (
        select(t.assignment.c.labeler_id, t.assignment.c.state, t.task.c.prompt_id)
        .join(t.task, t.task.c.id == t.assignment.c.task_id)
        .where(t.assignment.c.state.in_(ENDED))
    )
    submissions = (
        select(t.assignment.c.labeler_id, t.submission.c.submitted_at, SECONDS)
        .select_from(SUBMITTED.outerjoin(p.circumstance, p.circumstance.c.submission_id == t.submission.c.id))
        .where(IS_FIRST)
        .order_by(t.submission.c.submitted_at)
    )
    if labeler_id is not None:
        ends, submissions = (query.where(t.assignment.c.labeler_id == labeler_id) for query in (ends, submissions))
    found: defaultdict[str, Work] = defaultdict(Work)
    for row in connection.execute(ends):
        found[row[0]].ends.append((row[1], row[2]))
    for row in connection.execute(submissions):
        found[row[0]].submissions.append((row[1], row[2]))
    return found


def figures(labeler: Labeler, work: Work, judged: Sequence[JudgedRanking], agreement: Interval | None) -> LabelerRow:
    """Return one labeler's figures."""
    states = Counter(state for state, _ in work.ends)
    seconds = work.seconds
    prompts = [prompt for _, prompt in work.ends]
    skips = [float(state == "skipped") for state, _ in work.ends]
    return LabelerRow(
        id=labeler.id,
        cohort=labeler.cohort,
        origin=labeler.origin,
        num_submitted=states["submitted"],
        num_comparisons=len(judged),
        num_skipped=states["skipped"],
        num_surplus=states["surplus"],
        median_seconds=median(seconds) if seconds else None,
        per_hour=3600.0 * len(seconds) / sum(seconds) if sum(seconds) else None,
        agreement=agreement,
        position_bias=position_bias(judged),
        tie_rate=tie_rate(judged),
        skip_rate=proportion(skips, prompts) if skips else None,
        last_at=work.submissions[-1][0] if work.submissions else None,
    )


def position_bias(judged: Sequence[JudgedRanking]) -> Interval | None:
    """Return the share of untied pairs whose first shown completion is preferred; .5 is no bias."""
    outcomes: list[float] = []
    prompts: list[str] = []
    for one in judged:
        place = {key: number for number, tier in enumerate(one.tiers) for key in tier}
        for first, second in combinations(one.shown, 2):
            if place[first] != place[second]:
                outcomes.append(float(place[first] < place[second]))
                prompts.append(one.prompt_id)
    return proportion(outcomes, prompts) if outcomes else None


def tie_rate(judged: Sequence[JudgedRanking]) -> Interval | None:
    """Return the share of pairs of completions that are tied."""
    outcomes: list[float] = []
    prompts: list[str] = []
    for one in judged:
        size, num_untied = sum(len(tier) for tier in one.tiers), num_comparisons(one.tiers)
        num_pairs = size * (size - 1) // 2
        outcomes += [0.0] * num_untied + [1.0] * (num_pairs - num_untied)
        prompts += [one.prompt_id] * num_pairs
    return proportion(outcomes, prompts) if outcomes else None


# One labeler


def labeler(connection: Connection, labeler_id: str) -> LabelerDetail:
    """Return one labeler's figures in detail; ValueError for an unknown one."""
    found = labelers(connection, labeler_id)
    if not found:
        raise ValueError(f"labeler {labeler_id!r} is not in the store")
    query = (
        select(t.assignment.c.skip_reason, func.count())
        .where(t.assignment.c.labeler_id == labeler_id, t.assignment.c.state == "skipped")
        .group_by(t.assignment.c.skip_reason)
        .order_by(t.assignment.c.skip_reason)
    )
    return LabelerDetail(
        row=found[0],
        weeks=weeks(work_of(connection, labeler_id)[labeler_id]),
        reasons={row[0]: row[1] for row in connection.execute(query)},
        last=last_submissions(connection, labeler_id),
        calibration=drift.calibration(connection, labeler_id, NUM_LAST),
    )


def weeks(work: Work) -> tuple[WeekPace, ...]:
    """Return how many submissions each week had and how long they took, oldest first."""
    of_week: defaultdict[date, Work] = defaultdict(Work)
    for at, seconds in work.submissions:
        of_week[monday(at)].submissions.append((at, seconds))
    return tuple(
        WeekPace(week, len(one.submissions), median(one.seconds) if one.seconds else None)
        for week, one in sorted(of_week.items())
    )


def last_submissions(connection: Connection, labeler_id: str) -> tuple[SubmissionHead, ...]:
    """Return a labeler's newest submissions, revisions among them."""
    query = (
        select(
            t.submission.c.id, t.task.c.id.label("task_id"), t.task.c.task_set, t.task.c.kind, t.task.c.prompt_id,
            t.prompt.c.text, t.assignment.c.state, t.submission.c.revision_of, SECONDS.label("seconds"),
            t.submission.c.submitted_at,
        )
        .select_from(SUBMITTED.outerjoin(p.circumstance, p.circumstance.c.submission_id == t.submission.c.id))
        .join(t.prompt, t.prompt.c.id == t.task.c.prompt_id)
        .where(t.assignment.c.labeler_id == labeler_id)
        .order_by(t.submission.c.submitted_at.desc(), t.submission.c.id)
        .limit(NUM_LAST)
    )  # fmt: skip
    return tuple(
        SubmissionHead(
            id=row["id"],
            task_id=row["task_id"],
            task_set=row["task_set"],
            kind=row["kind"],
            prompt_id=row["prompt_id"],
            prompt_text=row["text"],
            state=row["state"],
            is_revision=row["revision_of"] is not None,
            seconds=row["seconds"],
            submitted_at=row["submitted_at"],
        )
        for row in connection.execute(query).mappings()
    )
