"""Prompts that labelers write themselves: plain, few-shot with K pairs, user-based (paper A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from instructloop.core.records import Kind
from instructloop.store.language import is_language
from instructloop.store.people import Account
from instructloop.web.assignments import LABELS, desk_of, labeler_of
from instructloop.web.clock import now
from instructloop.web.languages import LANGUAGES
from instructloop.web.pages import redirect, render
from instructloop.web.policy import allow

router = APIRouter()
MAX_PAIRS = 30
NUM_EMPTY_PAIRS = 3
"""As many pairs as a fresh form has."""
Line = Annotated[str, Form()]
Lines = Annotated[list[str] | None, Form()]


@dataclass(frozen=True, slots=True)
class Written:
    """What the form holds; pairs of which both halves are blank are none."""

    kind: Kind = "plain"
    instruction: str = ""
    use_case: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    language: str = ""  # BCP 47; "": not said

    def problem(self) -> tuple[str, str] | None:
        """Return field and sentence of what is missing, None where nothing is."""
        if self.language and not is_language(self.language):
            return "language", "There is no such language."
        if not self.instruction.strip():
            return "instruction", "Nothing is written yet."
        if self.kind == "user_based" and not self.use_case.strip():
            return "use_case", "Name the use case that the prompt is for."
        if self.kind != "few_shot":
            return None
        if len(self.pairs) < 2:
            return "pairs", "A few-shot prompt needs at least two pairs."
        if len(self.pairs) > MAX_PAIRS:
            return "pairs", f"At most {MAX_PAIRS} pairs, please."
        if any(not query.strip() or not completion.strip() for query, completion in self.pairs):
            return "pairs", "Every pair needs both a query and its completion."
        return None


@router.get("/write")
def write_form(request: Request, kind: Kind = "plain", person: Account = allow(*LABELS)) -> Response:
    """Show the form for a prompt of one kind."""
    own = person.languages
    return show(request, Written(kind=kind, language=own[0] if len(own) == 1 else ""))


@router.post("/write")
def write(
    request: Request,
    kind: Annotated[Kind, Form()] = "plain",
    instruction: Line = "",
    use_case: Line = "",
    language: Line = "",
    query: Lines = None,
    completion: Lines = None,
    person: Account = allow(*LABELS),
) -> Response:
    """Store a prompt; a form that is not complete comes back as it was sent."""
    rows = zip(query or (), completion or (), strict=False)
    pairs = tuple((clean(q), clean(c)) for q, c in rows if q.strip() or c.strip())
    written = Written(kind, clean(instruction), clean(use_case), pairs, language)
    problem = written.problem()
    if problem is None:
        try:
            desk_of(request).write_prompt(
                labeler_of(person),
                written.kind,
                written.instruction,
                pairs if written.kind == "few_shot" else (),
                written.use_case if written.kind == "user_based" else "",
                now(request),
                language=written.language or None,
            )
        except ValueError as error:
            problem = "instruction", str(error)
    if problem is not None:
        return show(request, written, problem)
    return redirect(
        request, f"/write?kind={written.kind}", say="Your prompt is in the store. Thank you; here is room for the next."
    )


def clean(text: str) -> str:
    """Return a text area's content with line ends as they were typed: browsers send CR LF."""
    return text.replace("\r\n", "\n").strip()


def show(request: Request, written: Written, problem: tuple[str, str] | None = None) -> Response:
    """Return the form as far as it is filled in, with room for more pairs."""
    empty = max(0, NUM_EMPTY_PAIRS - len(written.pairs))
    return render(
        request,
        "work/write.html",
        status=200 if problem is None else 400,
        written=written,
        pairs=[*written.pairs, *[("", "")] * empty],
        field=problem[0] if problem else None,
        error=problem[1] if problem else None,
        instructions=desk_of(request).instruction("write_prompt"),
        max_pairs=MAX_PAIRS,
        languages=LANGUAGES,
    )
