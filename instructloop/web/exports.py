"""Exports and freezes asked for on a page, made one after another in a thread, and handed out as attachments."""

from __future__ import annotations

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from instructloop.store.export import export
from instructloop.store.people import Account
from instructloop.store.reports import ExportJob, ExportKind, ExportOptions
from instructloop.store.store import Store
from instructloop.web.clock import now
from instructloop.web.errors import Problem
from instructloop.web.pages import redirect
from instructloop.web.sections import MAY_CHANGE, MAY_READ, actors, show

router = APIRouter(prefix="/exports")
log = logging.getLogger("instructloop.web")
KINDS = {
    "judgements": "All judgements as given: revisions and late ones too, ratings, flags, notes, seconds, order shown",
    "sft": "Demonstrations, one a row, for training",
    "rankings": "Rankings of K completions, one a row, for training",
    "pairs": "Pairs of a better and a worse completion, for training",
}


class Worker:
    """One thread that makes files one after another; jobs that a dead process left running are failed first."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export")
        app.state.store.exports.abandon(now=app.state.clock())

    def add(self, job: ExportJob) -> None:
        """Make the file of a job when those before it are done."""
        self._pool.submit(self._make, job)

    def wait(self) -> None:
        """Return when all that was added is done; tests call it."""
        self._pool.submit(lambda: None).result()

    def _make(self, job: ExportJob) -> None:
        store: Store = self._app.state.store
        if not store.exports.start(job.id):
            return
        try:
            folder = folder_of(self._app)
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{job.id}.{job.options.format}"
            done = export(store, job.kind, path, options=job.options, now=self._app.state.clock())
            store.exports.finish(job.id, path.name, done.manifest, now=self._app.state.clock())
        except Exception as error:
            # Whatever it was must be said on the page: nobody waits for this thread.
            log.exception("export %s failed", job.id)
            store.exports.fail(job.id, str(error) or type(error).__name__, now=self._app.state.clock())


_STARTING = threading.Lock()


def worker(app: FastAPI) -> Worker:
    """Return the app's worker, started at the first call."""
    with _STARTING:
        if not hasattr(app.state, "export_worker"):
            app.state.export_worker = Worker(app)
        return app.state.export_worker


def folder_of(app: FastAPI) -> Path:
    """Return where files of exports lie."""
    return Path(app.state.folder) / "exports"


@router.get("")
def list_page(request: Request, task_set: str = "", kind: str = "judgements", person: Account = MAY_READ) -> Response:
    """All exports, and the form for the next."""
    store: Store = request.app.state.store
    return show(
        request,
        person,
        "research/exports.html",
        "/exports",
        jobs=store.exports.jobs(),
        actors=actors(store),
        kinds=KINDS,
        task_sets=store.research.progress(now(request)),
        chosen=task_set,
        chosen_kind=kind if kind in KINDS else "judgements",
    )


@router.post("")
def create(
    request: Request,
    kind: Annotated[str, Form()],
    file_format: Annotated[str, Form(alias="format", pattern="^(jsonl|csv)$")] = "jsonl",
    task_set: Annotated[list[str] | None, Form()] = None,
    person: Account = MAY_CHANGE,
) -> Response:
    """Ask for an export."""
    if kind not in KINDS:
        raise Problem(400, "There is no such kind of export.", field="kind")
    options = ExportOptions(format=file_format, task_sets=tuple(sorted(task_set)) if task_set else None)  # type: ignore[arg-type]
    job = ask(request, kind, options, person)  # type: ignore[arg-type]
    return redirect(request, f"/exports/{job.id}", say="The export is being made; you may leave this page.")


def ask(request: Request, kind: ExportKind, options: ExportOptions, person: Account) -> ExportJob:
    """Note an export in the store and give it to the worker."""
    store: Store = request.app.state.store
    at_work = worker(request.app)
    job = store.exports.create(kind, options, by=person.id, now=now(request))
    at_work.add(job)
    return job


@router.get("/{job_id}")
def job_page(request: Request, job_id: str, person: Account = MAY_READ) -> Response:
    """One export: how far it is, its file, its manifest."""
    job = found(request, job_id)
    store: Store = request.app.state.store
    return show(
        request, person, "research/export.html", "/exports", job=job, actors=actors(store), size=size(request, job)
    )


@router.get("/{job_id}/state")
def state(request: Request, job_id: str, person: Account = MAY_READ) -> Response:
    """How far an export is, for the page that waits for it."""
    return JSONResponse({"state": found(request, job_id).state})


@router.get("/{job_id}/file")
def download(request: Request, job_id: str, person: Account = MAY_CHANGE) -> Response:
    """The file of an export, always as an attachment: a browser must not open what models and people wrote."""
    job = found(request, job_id)
    path = path_of(request, job)
    if path is None:
        raise Problem(404, "This export has no file: it is not done, or its file was taken away.")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{job.kind}-{job.created_at:%Y%m%d-%H%M}-{path.name[-12:]}")
    media = "text/csv" if path.suffix == ".csv" else "application/x-ndjson"
    return FileResponse(path, media_type=media, filename=name, content_disposition_type="attachment")


@router.get("/{job_id}/manifest")
def manifest(request: Request, job_id: str, person: Account = MAY_READ) -> Response:
    """The manifest of an export as an attachment."""
    job = found(request, job_id)
    if job.manifest is None:
        raise Problem(404, "This export has no manifest yet.")
    name = f"{job.kind}-{job.created_at:%Y%m%d-%H%M}.manifest.json"
    return JSONResponse(dict(job.manifest), headers={"Content-Disposition": f'attachment; filename="{name}"'})


def found(request: Request, job_id: str) -> ExportJob:
    """Return an export, or the answer 404."""
    store: Store = request.app.state.store
    job = store.exports.job(job_id)
    if job is None:
        raise Problem(404, "There is no such export.")
    return job


def path_of(request: Request, job: ExportJob) -> Path | None:
    """Return where the file of an export lies, None where it does not; never a path outside the folder."""
    if job.state != "done" or job.file is None:
        return None
    path = folder_of(request.app) / Path(job.file).name
    return path if path.is_file() else None


def size(request: Request, job: ExportJob) -> int | None:
    """Return the bytes of an export's file."""
    path = path_of(request, job)
    return path.stat().st_size if path else None
