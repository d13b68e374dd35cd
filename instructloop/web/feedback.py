"""What a labeler reads after a calibration task: their answer beside the researcher's, and why; no form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from instructloop.core.questions import FLAG_QUESTIONS
from instructloop.store import ComparisonForm
from instructloop.store.desk import DeskItem
from instructloop.store.screening_reports import Feedback, Gold
from instructloop.web.answers import letter
from instructloop.web.pages import render


@dataclass(frozen=True, slots=True)
class Difference:
    """A flag that the two answered otherwise; a flag on which the researcher is silent makes none."""

    letter: str
    question: str
    theirs: bool | None
    gold: bool


def feedback_on(request: Request, submission_id: str) -> Feedback | None:
    """Return what there is to tell of a submission; None for all but calibration tasks."""
    return request.app.state.store.screening.feedback(submission_id)


def show_feedback(request: Request, item: DeskItem, feedback: Feedback) -> Response:
    """Show how an answer to a calibration task compares with the researcher's."""
    assert item.submission is not None
    answer, shown = item.submission.answer, [completion.id for completion in item.completions]
    assert isinstance(answer, ComparisonForm)
    return render(
        request,
        "work/feedback.html",
        item=item,
        shown=[(letter(completion.id, shown), completion) for completion in item.completions],
        theirs=order(answer.tiers, shown),
        gold=order(feedback.gold.tiers, shown),
        why=feedback.gold.why,
        agreement=feedback.agreement,
        differences=differences(answer, feedback.gold, shown),
    )


def order(tiers: Sequence[Sequence[str]], shown: Sequence[str]) -> str:
    """Return an order in the letters of the page, as in Figure 2: D > C > A = B."""
    return " > ".join(" = ".join(sorted(letter(key, shown) for key in tier)) for tier in tiers)


def differences(answer: ComparisonForm, gold: Gold, shown: Sequence[str]) -> list[Difference]:
    """Return the flags answered otherwise, in the order of the page."""
    return [
        Difference(letter(key, shown), question.label, answer.flags[key][question.name], value)
        for key in shown
        for question in FLAG_QUESTIONS
        if (value := gold.flags.get(key, {}).get(question.name)) is not None
        and value != answer.flags[key][question.name]
    ]
