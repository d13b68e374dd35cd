"""Exports asked for in the app, one transaction a method: waiting, running, done or failed; and what they read."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from instructloop.store import submissions
from instructloop.store import tables_people as p
from instructloop.store.audit import record
from instructloop.store.checks import check_time
from instructloop.store.engine import Database
from instructloop.store.export_options import selected, stated
from instructloop.store.export_rows import SubmissionRow
from instructloop.store.reports import ExportJob, ExportKind, ExportOptions
from instructloop.store.rows import Tiers
from instructloop.store.tasks import task_set_kinds

UNFINISHED = ("waiting", "running")


class Exports:
    """The list of exports; whoever runs them calls `export` between `start` and `finish`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, kind: ExportKind, options: ExportOptions, *, by: str, now: datetime) -> ExportJob:
        """Add an export that waits to be run; what `export` would refuse is refused here already."""
        check_time(now)
        with self._database.write.begin() as connection:
            named = stated(options, selected(kind, options, task_set_kinds(connection)))
            job_id = f"export-{secrets.token_hex(8)}"
            values = {"id": job_id, "kind": kind, "options": asdict(named), "state": "waiting"}
            connection.execute(insert(p.export_job), values | {"created_by": by, "created_at": now})
            details = {"kind": kind} | asdict(named)
            record(connection, at=now, actor=by, action="export.create", object_id=job_id, details=details)
            return found(connection, job_id)

    def jobs(self, limit: int = 100) -> list[ExportJob]:
        """Return the newest exports first."""
        query = select(p.export_job).order_by(p.export_job.c.created_at.desc(), p.export_job.c.id).limit(limit)
        with self._database.read.connect() as connection:
            return [job_of(row) for row in connection.execute(query).mappings()]

    def job(self, job_id: str) -> ExportJob | None:
        """Return one export."""
        with self._database.read.connect() as connection:
            row = connection.execute(select(p.export_job).where(p.export_job.c.id == job_id)).mappings().first()
            return None if row is None else job_of(row)

    def start(self, job_id: str) -> bool:
        """Turn a waiting export into a running one; False when somebody else has it already."""
        with self._database.write.begin() as connection:
            is_waiting = (p.export_job.c.id == job_id) & (p.export_job.c.state == "waiting")
            return connection.execute(update(p.export_job).where(is_waiting).values(state="running")).rowcount == 1

    def finish(self, job_id: str, file: str, manifest: Mapping[str, Any], *, now: datetime) -> None:
        """Note that an export is done and where its file lies."""
        self._end(job_id, now, state="done", file=file, manifest=dict(manifest), error=None)

    def fail(self, job_id: str, error: str, *, now: datetime) -> None:
        """Note why an export failed."""
        self._end(job_id, now, state="failed", error=error)

    def _end(self, job_id: str, now: datetime, **values: Any) -> None:
        check_time(now)
        with self._database.write.begin() as connection:
            found(connection, job_id)
            query = update(p.export_job).where(p.export_job.c.id == job_id)
            connection.execute(query.values(finished_at=now, **values))

    def abandon(self, *, now: datetime) -> int:
        """Fail the exports that a dead process left unfinished and return their number; called when a server starts."""
        check_time(now)
        left = p.export_job.c.state.in_(UNFINISHED)
        values = {"state": "failed", "error": "the server stopped before it was done", "finished_at": now}
        with self._database.write.begin() as connection:
            return connection.execute(update(p.export_job).where(left).values(values)).rowcount

    # What exports read

    def submissions(self, task_sets: Sequence[str], cohorts: Sequence[str]) -> Iterator[SubmissionRow]:
        """Yield every submission of these sets and cohorts, revisions and surplus ones too, sorted by id."""
        with self._database.read.connect() as connection:
            yield from submissions.submissions(connection, task_sets, cohorts)

    def adjudicated(self) -> dict[str, Tiers]:
        """Return submission -> a researcher's newest order of its task."""
        with self._database.read.connect() as connection:
            return submissions.adjudicated(connection)


def found(connection: Connection, job_id: str) -> ExportJob:
    """Return an export; ValueError for an unknown one."""
    row = connection.execute(select(p.export_job).where(p.export_job.c.id == job_id)).mappings().first()
    if row is None:
        raise ValueError(f"export {job_id!r} is not in the store")
    return job_of(row)


def job_of(row: RowMapping) -> ExportJob:
    """Return the export in a row."""
    given = row["options"]
    sets, cohorts = (None if given[name] is None else tuple(given[name]) for name in ("task_sets", "cohorts"))
    values = {name: row[name] for name in row if name != "options"}
    return ExportJob(**values, options=ExportOptions(given["format"], sets, cohorts))
