"""What a request gets when it cannot be done: one sentence, as a page or as JSON, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from instructloop.store.people import NotAllowed

log = logging.getLogger("instructloop.web")
SENTENCES = {
    400: "The request cannot be understood.",
    403: "You may not do this.",
    404: "There is no such page.",
    405: "This page cannot be used that way.",
    413: "This is too large to be sent.",
    429: "Too many attempts; wait a little and try again.",
    500: "Something went wrong here. What you saved before is kept.",
    503: "The store cannot be written at the moment. What you saved before is kept.",
}


class Problem(HTTPException):
    """A request that is refused, in a sentence for the person who made it; `field` names the input at fault."""

    def __init__(
        self, status: int, text: str | None = None, *, field: str | None = None, wait_seconds: int | None = None
    ):
        self.status = status
        self.text = text or SENTENCES.get(status, HTTPStatus(status).phrase)
        self.field = field
        self.wait_seconds = wait_seconds
        super().__init__(status, self.text)


def wants_json(request: Request) -> bool:
    """Return whether a program asks rather than a person's browser."""
    accepts = request.headers.get("accept", "")
    return request.url.path.startswith("/api/") or ("application/json" in accepts and "text/html" not in accepts)


def respond(request: Request, problem: Problem) -> Response:
    """Return the answer to a refused request."""
    from instructloop.web.pages import render

    if wants_json(request):
        body = {"error": problem.text} | ({"field": problem.field} if problem.field else {})
        response: Response = JSONResponse(body, status_code=problem.status)
    else:
        title = HTTPStatus(problem.status).phrase
        response = render(request, "error.html", status=problem.status, title=title, text=problem.text)
    if problem.wait_seconds is not None:
        response.headers["Retry-After"] = str(problem.wait_seconds)
    return response


def _of_http(error: PlainHTTPException) -> Problem:
    detail: Any = error.detail
    if isinstance(detail, dict):
        return Problem(error.status_code, detail.get("error"), field=detail.get("field"))
    is_plain = detail == HTTPStatus(error.status_code).phrase
    return Problem(error.status_code, None if is_plain else detail)


def _of_validation(error: RequestValidationError) -> Problem:
    """Return what is wrong with a form or a JSON body, without the value: it may be a password."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return Problem(400, f"{where or 'body'}: {first['msg']}", field=where or None)


def _of_value(error: ValueError) -> Problem:
    log.info("refused: %s", type(error).__name__)
    return Problem(400, str(error))


def _of_store(error: OSError) -> Problem:
    log.error("store failed: %s", error)
    return Problem(503, wait_seconds=5)


def _redirect_or_refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlainHTTPException)
    if 300 <= error.status_code < 400:
        return Response(status_code=error.status_code, headers=error.headers)
    return respond(request, _of_http(error))


def _refuse(problem_of: Callable[[Any], Problem], request: Request, error: Exception) -> Response:
    return respond(request, problem_of(error))


PROBLEMS: dict[type[Exception], Callable[[Any], Problem]] = {
    Problem: lambda problem: problem,
    RequestValidationError: _of_validation,
    NotAllowed: lambda error: Problem(403, str(error)),
    ValueError: _of_value,  # the store's word for what a person can cause
    OSError: _of_store,
}


def add_handlers(app: FastAPI) -> None:
    """Answer what handlers raise; all else is a fault of ours and becomes a 500 in `headers`."""
    app.add_exception_handler(PlainHTTPException, _redirect_or_refuse)
    for kind, problem_of in PROBLEMS.items():
        app.add_exception_handler(kind, partial(_refuse, problem_of))
