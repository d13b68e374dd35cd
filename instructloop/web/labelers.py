"""Labelers in figures: pace, agreement, position bias, ties and skips of all, and a page of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from instructloop.core.rankings import Interval
from instructloop.core.records import COHORTS
from instructloop.store.people import Account
from instructloop.store.reports import LabelerRow, WeekPace
from instructloop.store.store import Store
from instructloop.web import figures
from instructloop.web.errors import Problem
from instructloop.web.pages import number
from instructloop.web.sections import MAY_READ, actors, names, show

router = APIRouter(prefix="/research")
Sort = Literal["id", "judgements", "seconds", "agreement", "position", "ties", "skips", "last"]


@router.get("/labelers")
def labelers_page(
    request: Request,
    sort: Sort = "id",
    cohort: Annotated[str, Query(max_length=16)] = "",
    person: Account = MAY_READ,
) -> Response:
    """Every labeler's pace, agreement, position bias, tie and skip rates."""
    store: Store = request.app.state.store
    everyone = store.research.labelers()
    rows = sorted((row for row in everyone if cohort in ("", row.cohort)), key=lambda row: sort_key(row, sort))
    name_of = names(store)
    return show(
        request,
        person,
        "research/labelers.html",
        "/research/labelers",
        rows=rows,
        cohorts=[one for one in COHORTS if any(row.cohort == one for row in everyone)],
        cohort=cohort,
        sort=sort,
        name_of=name_of,
        plot=pace_plot(rows, name_of),
        strip=figures.strip,
    )


def sort_key(row: LabelerRow, sort: Sort) -> tuple[bool, float, str]:
    """Return the place of a labeler in a table: who needs a look stands first, who has no figure last."""

    def distance(interval: Interval | None, sign: int) -> float | None:
        return None if interval is None else sign * interval.value

    figure: float | None = {
        "id": 0.0,
        "judgements": -row.num_submitted,
        "seconds": row.median_seconds,
        "agreement": distance(row.agreement, 1),
        "position": None if row.position_bias is None else -abs(row.position_bias.value - 0.5),
        "ties": distance(row.tie_rate, -1),
        "skips": distance(row.skip_rate, -1),
        "last": None if row.last_at is None else -row.last_at.timestamp(),
    }[sort]
    return figure is None, figure or 0.0, row.id


def pace_plot(rows: Sequence[LabelerRow], name_of: Mapping[str, str]) -> figures.Plot | None:
    """Return agreement over seconds a submission, one dot a labeler; None for fewer than three."""
    points = [
        (row.median_seconds, row.agreement.value, f"{name_of.get(row.id, row.id)}: {figures.in_words(row.agreement)}")
        for row in rows
        if row.median_seconds is not None and row.agreement is not None
    ]
    if len(points) < 3:
        return None
    lowest = min(value for _, value, _ in points)
    axis = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] if lowest >= 0.5 else [0.0, 0.25, 0.5, 0.75, 1.0]
    return figures.scatter(
        points,
        summary=f"Agreement of {len(points)} labelers over their median seconds a submission",
        across="median seconds a submission",
        axis=axis,
        up="agreement with all others",
    )


@router.get("/labelers/{labeler_id:path}")
def labeler_page(request: Request, labeler_id: str, person: Account = MAY_READ) -> Response:
    """One labeler: figures beside those of the cohort, weeks, reasons to skip, newest submissions, calibration."""
    store: Store = request.app.state.store
    if labeler_id not in {one.id for one in store.labelers()}:
        raise Problem(404, "There is no such labeler.")
    detail = store.research.labeler(labeler_id)
    accounts = [one for one in store.accounts.accounts() if one.labeler_id == labeler_id]
    cohort = detail.row.cohort
    others = [row for row in store.research.labelers() if row.cohort == cohort and row.id != labeler_id]
    return show(
        request,
        person,
        "research/labeler.html",
        "/research/labelers",
        detail=detail,
        row=detail.row,
        account=accounts[0] if accounts else None,
        usual=usual(others),
        plot=week_plot(detail.weeks) if len(detail.weeks) > 1 else None,
        decisions=store.screening.decisions(labeler_id),
        actors=actors(store),
        strip=figures.strip,
    )


def usual(rows: Sequence[LabelerRow]) -> Mapping[str, float | None]:
    """Return the median of the others of a cohort for each figure."""

    def median(values: Iterable[float | None]) -> float | None:
        there = sorted(value for value in values if value is not None)
        middle = len(there) // 2
        return (there[middle] + there[~middle]) / 2 if there else None

    shares = ("agreement", "position_bias", "tie_rate", "skip_rate")
    found = {name: median(one.value if (one := getattr(row, name)) else None for row in rows) for name in shares}
    return found | {
        "median_seconds": median(row.median_seconds for row in rows),
        "per_hour": median(row.per_hour for row in rows),
    }


def week_plot(weeks: Sequence[WeekPace]) -> figures.Plot:
    """Return submissions a week as columns."""
    bars = [(f"{week.monday:%d %b}", {"submissions": week.num_submitted}) for week in weeks]
    total = sum(week.num_submitted for week in weeks)
    return figures.columns(bars, series=["submissions"], summary=f"{number(total)} submissions in {len(weeks)} weeks")
