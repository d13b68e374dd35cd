"""The JSON interface of labelling: lease, draft, heartbeat, submit, revise, skip; its pages are in work."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from starlette.responses import JSONResponse, Response

from instructloop.store.desk import Desk, DeskItem, Finished, NotTheirs, StaleDraft
from instructloop.store.people import Account
from instructloop.web import answers
from instructloop.web.clock import now
from instructloop.web.csrf import FIELD
from instructloop.web.errors import Problem
from instructloop.web.feedback import feedback_on
from instructloop.web.policy import allow

router = APIRouter(prefix="/api")
LABELS = ("labeler", "researcher")
Json = Annotated[dict[str, Any], Body()]
NEXT = "/work"
OVER = "This task is {} already, in another tab perhaps; load the page again."
RAN_OUT = "Your time on this task ran out and somebody else has it now; what you submit is kept all the same."


def desk_of(request: Request) -> Desk:
    """Return the store's door for labelers."""
    return request.app.state.store.desk


def labeler_of(person: Account) -> str:
    """Return the id under which a person judges; owners and auditors have none."""
    if person.labeler_id is None:
        raise Problem(403, "Your account does not label.")
    return person.labeler_id


def item_of(request: Request, person: Account, assignment_id: str) -> DeskItem:
    """Return one of the labeler's own assignments; somebody else's does not exist."""
    item = desk_of(request).assignment(assignment_id, labeler_of(person))
    if item is None:
        raise Problem(404, "There is no such task.")
    return item


def parsed(model: type[answers.M], values: object) -> answers.M:
    """Return the message in a body, or refuse it."""
    try:
        return answers.read(model, values)
    except answers.WrongAnswer as wrong:
        raise Problem(400, str(wrong), field=wrong.field) from wrong


def as_json(item: DeskItem) -> dict[str, Any]:
    """Return an assignment for its labeler: never who wrote a completion, nor from which task set it comes.

    Without the task set nobody can tell a calibration task from another.
    """
    shown = [completion.id for completion in item.completions]
    return {
        "id": item.id,
        "kind": item.kind,
        "state": item.state,
        "prompt": {"id": item.prompt.id, "text": item.prompt.text, "kind": item.prompt.kind},
        "completions": [
            {"id": c.id, "letter": answers.letter(c.id, shown), "text": c.text, "is_finished": c.finished}
            for c in item.completions
        ],
        "expires_at": item.expires_at and item.expires_at.isoformat(),
        "instruction": {"kind": item.instruction.kind, "version": item.instruction.version},
        "draft": item.draft
        and {"rev": item.draft.rev, "body": item.draft.body, "saved_at": item.draft.saved_at.isoformat()},
        "submission": item.submission
        and {"id": item.submission.id, "answer": answers.answer_of(item.submission.answer)},
    }


@router.post("/next")
def next_assignment(request: Request, body: Json | None = None, person: Account = allow(*LABELS)) -> Response:
    """Lease the next task; 204 when there is none."""
    wanted = parsed(answers.NextBody, body or {})
    found = desk_of(request).next_assignment(labeler_of(person), now(request), wanted.kind)
    if found is None:
        return Response(status_code=204)
    return JSONResponse(as_json(item_of(request, person, found.id)))


@router.get("/assignments/{assignment_id}")
def show(request: Request, assignment_id: str, person: Account = allow(*LABELS)) -> Response:
    """Return one assignment with its draft and what was submitted."""
    return JSONResponse(as_json(item_of(request, person, assignment_id)))


@router.put("/assignments/{assignment_id}/draft")
@router.post("/assignments/{assignment_id}/draft")
def save_draft(request: Request, assignment_id: str, body: Json, person: Account = allow(*LABELS)) -> Response:
    """Keep a draft and renew the lease. POST is for sendBeacon, which has its token in the body."""
    draft = parsed(answers.DraftBody, {key: value for key, value in body.items() if key != FIELD})
    try:
        saved = desk_of(request).save_draft(assignment_id, labeler_of(person), draft.rev, draft.body, now(request))
    except NotTheirs as error:
        raise Problem(404, "There is no such task.") from error
    except StaleDraft as error:
        words = "Another tab or device has saved a newer version of this task."
        return JSONResponse({"error": words, "rev": error.rev}, status_code=409)
    except Finished as error:
        raise Problem(410, OVER.format(error.state)) from error
    expires_at = saved.expires_at and saved.expires_at.isoformat()
    return JSONResponse({"rev": saved.rev, "saved_at": saved.saved_at.isoformat(), "expires_at": expires_at})


@router.post("/assignments/{assignment_id}/heartbeat")
def heartbeat(request: Request, assignment_id: str, person: Account = allow(*LABELS)) -> Response:
    """Prolong the lease; 410 when another has the task by now, or it is over."""
    try:
        until = desk_of(request).heartbeat(assignment_id, labeler_of(person), now(request))
    except NotTheirs as error:
        raise Problem(404, "There is no such task.") from error
    if until is None:
        state = item_of(request, person, assignment_id).state
        raise Problem(410, RAN_OUT if state == "expired" else OVER.format(state))
    return JSONResponse({"expires_at": until.isoformat()})


@router.post("/assignments/{assignment_id}/submit")
def submit(request: Request, assignment_id: str, body: Json, person: Account = allow(*LABELS)) -> Response:
    """Store an answer whole; the same again gives the same receipt."""
    return store_answer(request, person, assignment_id, body, is_revision=False)


@router.post("/assignments/{assignment_id}/revise")
def revise(request: Request, assignment_id: str, body: Json, person: Account = allow(*LABELS)) -> Response:
    """Store a correction of what was submitted, which stays."""
    return store_answer(request, person, assignment_id, body, is_revision=True)


def store_answer(
    request: Request, person: Account, assignment_id: str, body: dict[str, Any], *, is_revision: bool
) -> Response:
    """Check an answer, store it with what it says of the prompt, and return the receipt."""
    item, sent = item_of(request, person, assignment_id), parsed(answers.SubmitBody, body)
    try:
        content, annotation = answers.content_of(item.kind, sent.answer, [c.id for c in item.completions])
        fields = answers.annotation_fields(annotation)
    except answers.WrongAnswer as wrong:
        raise Problem(400, str(wrong), field=wrong.field) from wrong
    if is_revision and item.submission is not None and feedback_on(request, item.submission.id) is not None:
        raise Problem(409, "You were told a researcher's judgement of this task, so it stays as it is.")
    desk, labeler = desk_of(request), labeler_of(person)
    version = item.instruction.version if sent.instruction_version is None else sent.instruction_version
    how = {"active_seconds": sent.active_seconds, "wall_seconds": sent.wall_seconds, "instruction": version}
    store = desk.revise if is_revision else desk.submit
    try:
        receipt = store(item.id, labeler, content, key=sent.idempotency_key, now=now(request), **how)
    except ValueError as error:
        # Answered before, by another tab or with another content: the page explains it and offers a correction.
        if item.submission is not None and not is_revision:
            raise Problem(409, "This task was submitted before. Load the page again to correct it.") from error
        raise
    if annotation is not None and fields is not None:
        desk.annotate(item.prompt.id, labeler, annotation.category, fields, now(request))
    has_feedback = feedback_on(request, receipt) is not None
    return JSONResponse({"receipt": receipt, "next": f"{NEXT}/{item.id}" if has_feedback else NEXT})


@router.post("/assignments/{assignment_id}/skip")
def skip(request: Request, assignment_id: str, body: Json, person: Account = allow(*LABELS)) -> Response:
    """Give a task back, with the reason."""
    message = parsed(answers.SkipBody, body)
    try:
        desk_of(request).skip(assignment_id, labeler_of(person), message.reason, now(request))
    except NotTheirs as error:
        raise Problem(404, "There is no such task.") from error
    return JSONResponse({"next": NEXT})
