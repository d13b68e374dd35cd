"""The instructions of each kind of work: version by version, with a preview before a new version is saved."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response

from instructloop.store.instructing import Instruction
from instructloop.store.people import Account
from instructloop.store.store import Store
from instructloop.store.tables_people import INSTRUCTION_KINDS
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.pages import redirect
from instructloop.web.sections import MAY_CHANGE, MAY_READ, show

router = APIRouter(prefix="/research/instructions")
SECTION = "/research/instructions"
LONGEST = 60_000  # characters: ten times the longest that the paper prints
TITLES = {
    "write_prompt": "Writing prompts",
    "demonstrate": "Writing demonstrations",
    "compare": "Rating and ranking",
    "evaluate": "Judging in the final evaluation",
    "annotate": "Describing prompts",
    "screening": "Screening",
}


@router.get("")
def list_page(request: Request, person: Account = MAY_READ) -> Response:
    """Each kind of instruction with its newest version."""
    store: Store = request.app.state.store
    versions = [(kind, TITLES[kind], newest_first(store, kind)) for kind in INSTRUCTION_KINDS]
    return show(request, person, "research/instructions.html", SECTION, kinds=versions)


@router.get("/{kind}")
def kind_page(
    request: Request,
    kind: str,
    version: Annotated[int | None, Query(ge=1)] = None,
    person: Account = MAY_READ,
) -> Response:
    """One kind: a version as labelers see it, what it changed, and the form for the next one."""
    store: Store = request.app.state.store
    versions = known(store, kind)
    shown = next((one for one in versions if version in (None, one.version)), None)
    if shown is None:
        raise Problem(404, "There is no such version.")
    before = next((one for one in versions if one.version == shown.version - 1), None)
    return show(
        request,
        person,
        "research/instruction.html",
        SECTION,
        **frame(kind, versions),
        shown=shown,
        text=versions[0].markdown,
        preview=None,
        problem=None,
        before=before.version if before else None,
        changes=list(changes(before.markdown, shown.markdown)) if before else [],
    )


@router.post("/{kind}")
def write(
    request: Request,
    kind: str,
    markdown: Annotated[str, Form(max_length=LONGEST)],
    action: Annotated[Literal["preview", "save"], Form()],
    based_on: Annotated[int, Form(ge=1)],
    person: Account = MAY_CHANGE,
) -> Response:
    """Show a text as labelers would see it, or save it as the next version."""
    store: Store = request.app.state.store
    versions = known(store, kind)
    newest = versions[0]
    text = markdown.replace("\r\n", "\n").strip() + "\n"
    problem = trouble(text, newest, based_on)
    if action == "save" and problem is None:
        saved = store.desk.add_instruction(kind, text, person.id, now(request))
        return redirect(
            request, f"{SECTION}/{kind}", say=f"Version {saved.version} is saved; labelers see it from now on."
        )
    return show(
        request,
        person,
        "research/instruction.html",
        SECTION,
        status=400 if action == "save" else 200,
        **frame(kind, versions),
        shown=newest,
        text=text,
        preview=text,
        problem=problem,
        before=newest.version,
        changes=list(changes(newest.markdown, text)),
    )


def frame(kind: str, versions: list[Instruction]) -> dict[str, Any]:
    """Return what the page of a kind shows whatever is done on it."""
    return {"kind": kind, "heading": TITLES[kind], "versions": versions, "longest": LONGEST}


def trouble(text: str, newest: Instruction, based_on: int) -> str | None:
    """Return why a text cannot be saved: nothing in it, nothing new, or somebody saved another meanwhile."""
    if not text.strip():
        return "There is no text to save."
    if newest.version != based_on:
        return f"Version {newest.version} was saved meanwhile. See what your text would change in it, then save again."
    if newest.markdown.strip() == text.strip():
        return f"This is word for word version {newest.version}."
    return None


def known(store: Store, kind: str) -> list[Instruction]:
    """Return the versions of a kind, newest first; 404 for a kind that there is not."""
    if kind not in INSTRUCTION_KINDS:
        raise Problem(404, "There are no such instructions.")
    return newest_first(store, kind)


def newest_first(store: Store, kind: str) -> list[Instruction]:
    """Return all versions of a kind, newest first."""
    return [one for one in store.desk.instructions() if one.kind == kind]


def changes(before: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield ("added" | "removed" | "same" | "gap", line) of a text against an earlier version, as diff -u does."""
    signs = {"+": "added", "-": "removed", " ": "same", "@": "gap"}
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), lineterm="", n=2)
    for i, line in enumerate(lines):
        if i >= 2:  # the first two name files
            yield signs[line[0]], "" if line[0] == "@" else line[1:]
