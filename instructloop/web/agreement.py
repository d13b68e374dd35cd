"""How far labelers agree: of all, week by week, each with all others, any two, and field by field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from instructloop.core.agreement import Ties
from instructloop.core.rankings import Interval
from instructloop.core.records import COHORTS
from instructloop.store.people import Account
from instructloop.store.reports import TIE_RULES, AgreementReport, StageProgress
from instructloop.store.store import Store
from instructloop.web import figures
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.sections import MAY_READ, names, show

router = APIRouter(prefix="/research")
PAPER_AGREEMENT = {"train": 0.726, "heldout": 0.773}  # section 3.4: 72.6 ± 1.5 % and 77.3 ± 1.3 %
PAPER_NAMES = {"train": "training labelers", "heldout": "held-out labelers"}
MOST_IN_MATRIX = 60
MOST_KEPT = 20


@router.get("/agreement")
def agreement_page(
    request: Request,
    cohort: Annotated[str, Query(max_length=16)] = "",
    task_set: Annotated[str, Query(max_length=200)] = "",
    ties: Ties = "drop",
    person: Account = MAY_READ,
) -> Response:
    """Agreement: of all, week by week, by labeler, by pair of labelers, and on each field of the form."""
    store: Store = request.app.state.store
    sets = [row for row in store.research.progress(now(request)) if row.kind == "compare"]
    if (cohort and cohort not in COHORTS) or (task_set and task_set not in {row.task_set for row in sets}):
        raise Problem(404, "There is no such cohort or set of tasks.")
    report = measured(request, sets, task_set, cohort, ties)
    name_of = names(store)
    weeks = [(f"{monday:%d %b}", interval) for monday, interval in report.by_week]
    references = {f"paper: {100 * value:.1f} %": value for key, value in PAPER_AGREEMENT.items() if cohort == key}
    plot = None
    if len(weeks) > 1:
        summary = f"Agreement in {len(weeks)} weeks, from {weeks[0][0]} to {weeks[-1][0]}"
        plot = figures.over_time(weeks, summary=summary, references=references, axis=share_axis(report.by_week))
    return show(
        request,
        person,
        "research/agreement.html",
        "/research/agreement",
        report=report,
        rules=TIE_RULES,
        cohort=cohort,
        cohorts=COHORTS,
        task_set=task_set,
        task_sets=sorted({row.task_set for row in sets}),
        plot=plot,
        paper=PAPER_AGREEMENT,
        paper_names=PAPER_NAMES,
        name_of=name_of,
        matrix=matrix(report.by_pair),
        strip=figures.strip,
    )


def measured(
    request: Request, progress: Sequence[StageProgress], task_set: str, cohort: str, ties: Ties
) -> AgreementReport:
    """Return the agreement of a set (empty: all) and cohort (all), measured again only after new submissions."""
    store: Store = request.app.state.store
    asked = (task_set, cohort, ties)
    so_far = tuple(
        sorted((row.task_set, row.cohort, row.num_submitted, str(row.last_submitted_at)) for row in progress)
    )
    kept: dict[object, tuple[object, AgreementReport]] = getattr(request.app.state, "agreement", {})
    if asked not in kept or kept[asked][0] != so_far:
        report = store.research.agreement((task_set,) if task_set else None, (cohort,) if cohort else None, ties)
        kept = dict(list(kept.items())[-MOST_KEPT:]) | {asked: (so_far, report)}
        request.app.state.agreement = kept
    return kept[asked][1]


def share_axis(points: Iterable[tuple[object, Interval]]) -> list[float]:
    """Return the ends and ticks of an axis of shares: from a half up where nothing lies lower, else all of it."""
    lowest = min((interval.low for _, interval in points), default=0.0)
    return [0.5, 0.6, 0.7, 0.8, 0.9, 1.0] if lowest >= 0.5 else [0.0, 0.25, 0.5, 0.75, 1.0]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Agreement of any two labelers as a square table; a cell without a common pair is None."""

    labelers: tuple[str, ...]
    cells: tuple[tuple[Interval | None, ...], ...]


def matrix(pairs: Sequence[tuple[str, str, Interval]]) -> Matrix | None:
    """Return the square of all pairs of labelers, None where it would be too large to look at or empty."""
    labelers = sorted({name for a, b, _ in pairs for name in (a, b)})
    if not 2 <= len(labelers) <= MOST_IN_MATRIX:
        return None
    of = {(a, b): interval for a, b, interval in pairs} | {(b, a): interval for a, b, interval in pairs}
    return Matrix(tuple(labelers), tuple(tuple(of.get((a, b)) for b in labelers) for a in labelers))
