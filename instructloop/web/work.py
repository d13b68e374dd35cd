"""The labelling pages: the next task, one task, help; what their scripts ask for is in assignments."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from instructloop.core.questions import CATEGORY_HELP, FLAG_QUESTIONS, PROMPT_QUESTIONS, RATING, WHEN
from instructloop.core.records import FLAGS
from instructloop.store.people import Account
from instructloop.store.rows import TaskKind
from instructloop.web.answers import letter
from instructloop.web.assignments import LABELS, as_json, desk_of, item_of, labeler_of
from instructloop.web.clock import now
from instructloop.web.feedback import feedback_on, show_feedback
from instructloop.web.pages import redirect, render
from instructloop.web.policy import allow

router = APIRouter()
FLAG_KEYS = dict(zip(FLAGS, "fihcsvepgom", strict=True))
"""The key of each flag: its first letter as far as that is free."""
SKIP_REASONS = (
    "The prompt is too unclear",
    "It needs knowledge that I lack",
    "It is in a language that I do not read well",
    "It contains personal data of somebody",
    "It upsets me",
    "Something is broken on this page",
)
"""The paper told labelers to skip what is very unclear and what they lack the expertise for (footnote 9)."""
WORDS = {
    "flag_questions": FLAG_QUESTIONS,
    "flag_keys": FLAG_KEYS,
    "prompt_questions": PROMPT_QUESTIONS,
    "categories": CATEGORY_HELP,
    "rating": RATING,
    "when_applies": WHEN,
}
HELP_KINDS = ("compare", "demonstrate", "evaluate", "write_prompt", "annotate")


@router.get("/work")
def next_task(request: Request, kind: TaskKind | None = None, person: Account = allow(*LABELS)) -> Response:
    """Lead to the next task, the one in hand first."""
    found = desk_of(request).next_assignment(labeler_of(person), now(request), kind)
    return render(request, "work/nothing.html", kind=kind) if found is None else redirect(request, f"/work/{found.id}")


@router.get("/work/{assignment_id}")
def task(request: Request, assignment_id: str, person: Account = allow(*LABELS)) -> Response:
    """Show a task to be done, or one that was submitted to be corrected."""
    item, desk = item_of(request, person, assignment_id), desk_of(request)
    if item.state == "skipped" and item.submission is None:
        return render(request, "work/skipped.html", item=item)
    shown = [completion.id for completion in item.completions]
    if item.submission is not None and (feedback := feedback_on(request, item.submission.id)) is not None:
        return show_feedback(request, item, feedback)
    data = {key: value for key, value in as_json(item).items() if key not in ("prompt", "completions")}
    said = [one for one in desk.annotations(item.prompt.id) if one.labeler_id == person.labeler_id]
    data["annotation"] = {"category": said[0].category, "fields": said[0].fields} if said else None
    return render(
        request,
        f"work/{item.kind}.html",
        item=item,
        data=data,
        shown=[(letter(completion.id, shown), completion) for completion in item.completions],
        skip_reasons=SKIP_REASONS,
        **WORDS,
    )


@router.get("/help")
def help_page(request: Request, person: Account = allow(*LABELS)) -> Response:
    """Show all instructions, every flag and every key."""
    desk = desk_of(request)
    return render(
        request,
        "work/help.html",
        instructions=[desk.instruction(kind) for kind in HELP_KINDS],
        **WORDS,
    )
