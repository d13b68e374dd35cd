"""Screening: candidates, their reports, grades and decisions, cut-offs, and alerts of drift (paper B.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response

from instructloop.core.rankings import Interval
from instructloop.core.screening import PAPER_CUT_OFFS, CutOffs
from instructloop.store.people import Account
from instructloop.store.screening_reports import ScreeningReport
from instructloop.store.store import Store
from instructloop.web import figures
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.gold import gold_counts
from instructloop.web.pages import redirect
from instructloop.web.sections import MAY_CHANGE, MAY_READ, actors, names, show

router = APIRouter(prefix="/research/screening")
SECTION = "/research/screening"
AcceptedCohort = Literal["train", "heldout", "researcher"]


@router.get("")
def candidates_page(request: Request, person: Account = MAY_READ) -> Response:
    """Candidates with their verdicts, drift alerts, gold, cut-offs."""
    store: Store = request.app.state.store
    candidates = store.screening.candidates()
    open_ones = [(one, store.screening.report(one.labeler)) for one in candidates if one.decision is None]
    tasks = store.screening.gold_tasks()
    return show(
        request,
        person,
        "research/screening.html",
        SECTION,
        open_ones=open_ones,
        decided=[one for one in candidates if one.decision is not None],
        num_to_grade=len(store.screening.to_grade(person.id)),
        drifting=store.screening.drifting(),
        gold={purpose: gold_counts(tasks, purpose) for purpose in ("screening", "calibration")},
        cut_offs=store.screening.cut_offs(),
        paper=PAPER_CUT_OFFS,
        name_of=names(store),
        actors=actors(store),
        strip=figures.strip,
    )


@router.post("/cut-offs")
def set_cut_offs(
    request: Request,
    flags: Annotated[float, Form(ge=0, le=1)],
    rankings: Annotated[float, Form(ge=0, le=1)],
    demonstrations: Annotated[float, Form(ge=1, le=7)],
    person: Account = MAY_CHANGE,
) -> Response:
    """Set the cut-offs of all reports from now on."""
    store: Store = request.app.state.store
    store.screening.set_cut_offs(CutOffs(flags, rankings, demonstrations), by=person.id, now=now(request))
    return redirect(request, SECTION, say="The cut-offs are set. Decisions keep the report that was seen.")


# Candidates


@router.get("/candidates/{labeler_id:path}")
def report_page(request: Request, labeler_id: str, person: Account = MAY_READ) -> Response:
    """One candidate's report and the form to decide."""
    return report_form(request, person, labeler_id)


@router.post("/candidates/{labeler_id:path}")
def decide(
    request: Request,
    labeler_id: str,
    decision: Annotated[Literal["accept", "decline"], Form()],
    cohort: Annotated[AcceptedCohort, Form()] = "train",
    reason: Annotated[str, Form(max_length=2000)] = "",
    person: Account = MAY_CHANGE,
) -> Response:
    """Accept or decline a candidate; the reason and the report seen are kept."""
    store: Store = request.app.state.store
    known_candidate(store, labeler_id)
    if not reason.strip():
        text = "Say why in a sentence: the decision is kept with its reason."
        return report_form(request, person, labeler_id, status=400, problem=text, cohort=cohort)
    is_accepted = decision == "accept"
    store.screening.decide(
        labeler_id,
        is_accepted,
        cohort=cohort if is_accepted else None,
        reason=reason.strip(),
        by=person.id,
        now=now(request),
    )
    said = f"Accepted into the cohort “{cohort}”." if is_accepted else "Declined."
    return redirect(request, SECTION, say=f"{said} The decision is recorded.")


def report_form(request: Request, person: Account, labeler_id: str, *, status: int = 200, **draft: object) -> Response:
    """Return a candidate's page."""
    store: Store = request.app.state.store
    known_candidate(store, labeler_id)
    report = store.screening.report(labeler_id)
    given = {"problem": None, "cohort": "train", "reason": ""} | draft
    return show(
        request,
        person,
        "research/report.html",
        SECTION,
        status=status,
        report=report,
        criteria=criteria(report),
        decisions=store.screening.decisions(labeler_id),
        candidate=names(store).get(labeler_id, labeler_id),
        actors=actors(store),
        strip=figures.strip,
        **given,
    )


def criteria(report: ScreeningReport) -> list[tuple[str, str, Interval | None, float, bool | None]]:
    """Return the paper's criteria that have a number: key, words, figure, cut-off, whether it is met."""
    verdicts, cut = report.verdicts, report.cut_offs
    return [
        ("flags", "Flags sensitive completions as researchers do", report.flags, cut.flags, verdicts["flags"]),
        ("rankings", "Orders completions as researchers do", report.rankings, cut.rankings, verdicts["rankings"]),
        (
            "demonstrations",
            "Writes well on sensitive prompts",
            report.grade,
            cut.demonstrations,
            verdicts["demonstrations"],
        ),
    ]


def known_candidate(store: Store, labeler_id: str) -> None:
    """Answer 404 unless somebody is or was a candidate."""
    if labeler_id not in {one.labeler for one in store.screening.candidates()}:
        raise Problem(404, "There is no such candidate.")


# Demonstrations


@router.get("/grading")
def grading_page(request: Request, person: Account = MAY_READ) -> Response:
    """The next demonstration to grade, without its writer's name."""
    store: Store = request.app.state.store
    waiting = store.screening.to_grade(person.id)
    return show(
        request,
        person,
        "research/grading.html",
        SECTION,
        waiting=len(waiting),
        one=waiting[0] if waiting else None,
        instructions=instruction_text(store),
    )


@router.post("/grading/{submission_id}")
def grade(
    request: Request,
    submission_id: str,
    value: Annotated[int, Form(alias="grade", ge=1, le=7)],
    person: Account = MAY_CHANGE,
) -> Response:
    """Grade a demonstration and go on to the next."""
    store: Store = request.app.state.store
    if submission_id not in {one.submission_id for one in store.screening.to_grade(person.id)}:
        raise Problem(404, "There is no such demonstration to grade, or you graded it already.")
    store.screening.grade(submission_id, value, by=person.id, now=now(request))
    return redirect(request, f"{SECTION}/grading", say=f"Graded {value}.")


def instruction_text(store: Store) -> str:
    """Return what candidates were told about demonstrations, empty where nothing is written."""
    found = store.desk.instruction("demonstrate")
    return found.markdown if found else ""
