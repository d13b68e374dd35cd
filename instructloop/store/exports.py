"""Exports asked for in the app, one transaction a method: waiting, running, done or failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from instructloop.store.engine import Database
from instructloop.store.reports import ExportJob, ExportKind, ExportOptions


class Exports:
    """The list of exports; whoever runs them calls `export` between `start` and `finish`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, kind: ExportKind, options: ExportOptions, *, by: str, now: datetime) -> ExportJob:
        """Add an export that waits to be run; what `export` would refuse is refused here already."""
        raise NotImplementedError

    def jobs(self, limit: int = 100) -> list[ExportJob]:
        """Return the newest exports first."""
        raise NotImplementedError

    def job(self, job_id: str) -> ExportJob | None:
        """Return one export."""
        raise NotImplementedError

    def start(self, job_id: str) -> bool:
        """Turn a waiting export into a running one; False when somebody else has it already."""
        raise NotImplementedError

    def finish(self, job_id: str, file: str, manifest: Mapping[str, Any], *, now: datetime) -> None:
        """Note that an export is done and where its file lies."""
        raise NotImplementedError

    def fail(self, job_id: str, error: str, *, now: datetime) -> None:
        """Note why an export failed."""
        raise NotImplementedError

    def abandon(self, *, now: datetime) -> int:
        """Fail the exports that a dead process left running and return their number; called when a server starts."""
        raise NotImplementedError
