"""Where the work stands: progress by stage and cohort, the days behind, and what waits for a researcher."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from fastapi import APIRouter, Request, Response

from instructloop.core.records import COHORTS
from instructloop.store.people import Account
from instructloop.store.reports import DayCount, StageProgress
from instructloop.store.store import Store
from instructloop.web import figures
from instructloop.web.agreement import PAPER_AGREEMENT, measured
from instructloop.web.clock import now
from instructloop.web.pages import number
from instructloop.web.sections import MAY_READ, show

router = APIRouter(prefix="/research")
DAYS_SHOWN = 30
STAGE_NAME = re.compile(r"r(?P<round>\d+)-(?P<name>.+)-(?P<hash>[0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Stage:
    """A set of tasks with its name taken apart and, while people work on it, the days that it still takes."""

    of: StageProgress
    round: int | None
    name: str
    days_left: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that waits for a researcher, and where."""

    path: str
    text: str


@router.get("")
def overview(request: Request, person: Account = MAY_READ) -> Response:
    """Progress by stage and cohort, the days behind, agreement, and what waits for a researcher."""
    store: Store = request.app.state.store
    at = now(request)
    progress = store.research.progress(at)
    latest = max((row.last_submitted_at for row in progress if row.last_submitted_at), default=at)
    days = store.research.per_day(latest - timedelta(days=DAYS_SHOWN - 1))
    week = [row for row in days if row.day > (at - timedelta(days=7)).date()]
    stages = [stage_of(row, week) for row in progress]
    compared = [row for row in progress if row.kind == "compare"]
    agreement = measured(request, compared, "", "train", "drop").overall if compared else None
    return show(
        request,
        person,
        "research/overview.html",
        "/research",
        stages=stages,
        submitted=sum(row.num_submitted for row in progress),
        wanted=sum(row.num_wanted for row in progress),
        leased=sum(row.num_leased for row in progress),
        in_week=sum(row.num_submitted for row in week),
        agreement=agreement,
        paper=PAPER_AGREEMENT["train"],
        plot=day_plot(days, latest.date()) if days else None,
        series=series_of(days),
        alerts=alerts(store, stages),
    )


def stage_of(row: StageProgress, week: Sequence[DayCount]) -> Stage:
    """Return a set of tasks for a table; how long it takes follows from the last seven days of its kind and cohort."""
    parts = STAGE_NAME.fullmatch(row.task_set)
    pace = sum(day.num_submitted for day in week if (day.kind, day.cohort) == (row.kind, row.cohort)) / 7
    left = row.num_remaining / pace if row.num_remaining and pace else None
    if parts is None:
        return Stage(row, None, row.task_set, left)
    return Stage(row, int(parts["round"]), parts["name"].replace("_", " "), left)


def series_of(days: Iterable[DayCount]) -> list[str]:
    """Return the cohorts that appear, in the project's order."""
    there = {day.cohort for day in days}
    return [cohort for cohort in COHORTS if cohort in there]


def day_plot(days: Sequence[DayCount], last: date) -> figures.Plot:
    """Return judgements a day as columns, one part a cohort."""
    counts: Counter[tuple[date, str]] = Counter()
    for row in days:
        counts[row.day, row.cohort] += row.num_submitted
    series = series_of(days)
    shown = [last - timedelta(days=i) for i in reversed(range(DAYS_SHOWN))]
    bars = [(f"{day:%d %b}", {cohort: counts[day, cohort] for cohort in series}) for day in shown]
    total = sum(counts.values())
    return figures.columns(
        bars, series=series, summary=f"{number(total)} judgements in the {DAYS_SHOWN} days up to {last:%d %B %Y}"
    )


def alerts(store: Store, stages: Sequence[Stage]) -> list[Alert]:
    """Return what waits for a researcher, the most pressing first."""
    candidates = store.screening.candidates()
    ready = [one for one in candidates if not one.decision and one.num_tasks and one.num_submitted >= one.num_tasks]
    to_grade = sum(one.num_to_grade for one in candidates)
    aside = sum(stage.of.num_set_aside for stage in stages)
    drifting = store.screening.drifting()
    found = [
        (len(drifting), "/research/screening#drift", "{n} labeler{s} agree{v} less with gold than before"),
        (len(ready), "/research/screening", "{n} candidate{s} finished screening and wait{v} for a decision"),
        (to_grade, "/research/screening/grading", "{n} demonstration{s} to grade"),
        (aside, "/research/tasks#aside", "{n} task{s} set aside: three people skipped each"),
    ]
    return [
        Alert(path, text.format(n=n, s="" if n == 1 else "s", v="s" if n == 1 else "")) for n, path, text in found if n
    ]
