"""What researchers ask of the store, one transaction a method: progress, agreement, labelers, conflicts, search."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from instructloop.core.agreement import Ties
from instructloop.store import agreeing, conflicts, labeler_figures, monitoring, searching, settings
from instructloop.store.engine import Database
from instructloop.store.reports import (
    AgreementReport,
    Conflict,
    ConflictDetail,
    DayCount,
    Hit,
    HitKind,
    LabelerDetail,
    LabelerRow,
    Page,
    SetAside,
    StageProgress,
)


class Research:
    """Read mostly; every figure carries its n and a 95 % interval clustered by prompt."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Settings

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting's value, else the default."""
        with self._database.read.connect() as connection:
            return settings.setting(connection, name, default)

    def set_setting(self, name: str, value: Any, *, by: str | None, now: datetime) -> None:
        """Set a setting to a JSON value; the audit log keeps who and when."""
        with self._database.write.begin() as connection:
            settings.set_setting(connection, name, value, by=by, now=now)

    def targets(self) -> Mapping[str, int]:
        """Return task set -> number of judgements wanted, where a researcher set one."""
        with self._database.read.connect() as connection:
            return monitoring.targets(connection)

    def set_targets(self, targets: Mapping[str, int], *, by: str, now: datetime) -> None:
        """Set the targets of task sets; one that is left out goes back to all that its tasks ask for."""
        with self._database.write.begin() as connection:
            monitoring.set_targets(connection, targets, by=by, now=now)

    # Progress

    def progress(self, now: datetime) -> list[StageProgress]:
        """Return where each task set stands in each cohort, newest first; a lease that ran out counts no more."""
        with self._database.read.connect() as connection:
            return monitoring.progress(connection, now)

    def per_day(self, since: datetime) -> list[DayCount]:
        """Return judgements per day (UTC), kind and cohort, revisions not counted, oldest first."""
        with self._database.read.connect() as connection:
            return monitoring.per_day(connection, since)

    def set_aside(self) -> list[SetAside]:
        """Return the tasks that three people skipped, for a researcher to look at."""
        with self._database.read.connect() as connection:
            return monitoring.set_aside(connection)

    # Agreement

    def agreement(
        self,
        task_sets: Collection[str] | None = None,
        cohorts: Collection[str] | None = None,
        ties: Ties = "drop",
    ) -> AgreementReport:
        """Return how far labelers agree; None: all task sets of comparisons, all cohorts."""
        with self._database.read.connect() as connection:
            return agreeing.report(connection, task_sets, cohorts, ties)

    # Labelers

    def labelers(self) -> list[LabelerRow]:
        """Return the figures of every labeler who has ever been given a task, sorted by id."""
        with self._database.read.connect() as connection:
            return labeler_figures.labelers(connection)

    def labeler(self, labeler_id: str) -> LabelerDetail:
        """Return one labeler's figures in detail; ValueError for an unknown one."""
        with self._database.read.connect() as connection:
            return labeler_figures.labeler(connection, labeler_id)

    # Conflicts

    def conflicts(self, limit: int = 50, offset: int = 0, *, below: float = 0.75) -> Page[Conflict]:
        """Return tasks whose judgements agree on less than `below` of the pairs, worst first, unadjudicated before."""
        with self._database.read.connect() as connection:
            return conflicts.conflicts(connection, limit, offset, below)

    def conflict(self, task_id: str) -> ConflictDetail | None:
        """Return all judgements of a task that at least two people compared; None when there is none such."""
        with self._database.read.connect() as connection:
            return conflicts.conflict(connection, task_id)

    def adjudicate(self, task_id: str, tiers: Sequence[Sequence[str]], reason: str, *, by: str, now: datetime) -> str:
        """Add a researcher's order for a task and return its id; the judgements stay as they are."""
        with self._database.write.begin() as connection:
            return conflicts.adjudicate(connection, task_id, tiers, reason, by=by, now=now)

    # Search

    def search(self, text: str, kind: HitKind | None = None, limit: int = 50, offset: int = 0) -> Page[Hit]:
        """Return texts that hold `text`, whatever the case of ASCII letters; `who` is source, policy or labeler."""
        with self._database.read.connect() as connection:
            return searching.search(connection, text, kind, limit, offset)
