"""What researchers ask of the store, one transaction a method: progress, agreement, labelers, conflicts, search."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from instructloop.core.agreement import Ties
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
        raise NotImplementedError

    def set_setting(self, name: str, value: Any, *, by: str | None, now: datetime) -> None:
        """Set a setting to a JSON value; the audit log keeps who and when."""
        raise NotImplementedError

    def targets(self) -> Mapping[str, int]:
        """Return task set -> number of judgements wanted, where a researcher set one."""
        raise NotImplementedError

    def set_targets(self, targets: Mapping[str, int], *, by: str, now: datetime) -> None:
        """Set the targets of task sets; one that is left out goes back to all that its tasks ask for."""
        raise NotImplementedError

    # Progress

    def progress(self, now: datetime) -> list[StageProgress]:
        """Return where each task set stands in each cohort, newest first; a lease that ran out counts no more."""
        raise NotImplementedError

    def per_day(self, since: datetime) -> list[DayCount]:
        """Return judgements per day (UTC), kind and cohort, revisions not counted, oldest first."""
        raise NotImplementedError

    def set_aside(self) -> list[SetAside]:
        """Return the tasks that three people skipped, for a researcher to look at."""
        raise NotImplementedError

    # Agreement

    def agreement(
        self,
        task_sets: Collection[str] | None = None,
        cohorts: Collection[str] | None = None,
        ties: Ties = "drop",
    ) -> AgreementReport:
        """Return how far labelers agree; None: all task sets of comparisons, all cohorts."""
        raise NotImplementedError

    # Labelers

    def labelers(self, now: datetime) -> list[LabelerRow]:
        """Return the figures of every labeler who has ever been given a task, sorted by id."""
        raise NotImplementedError

    def labeler(self, labeler_id: str, now: datetime) -> LabelerDetail:
        """Return one labeler's figures in detail; ValueError for an unknown one."""
        raise NotImplementedError

    # Conflicts

    def conflicts(self, limit: int = 50, offset: int = 0, *, below: float = 0.75) -> Page[Conflict]:
        """Return tasks whose judgements agree on less than `below` of the pairs, worst first, unadjudicated before."""
        raise NotImplementedError

    def conflict(self, task_id: str) -> ConflictDetail | None:
        """Return all judgements of a task that at least two people compared; None when there is none such."""
        raise NotImplementedError

    def adjudicate(self, task_id: str, tiers: Sequence[Sequence[str]], reason: str, *, by: str, now: datetime) -> str:
        """Add a researcher's order for a task and return its id; the judgements stay as they are."""
        raise NotImplementedError

    # Search

    def search(self, text: str, kind: HitKind | None = None, limit: int = 50, offset: int = 0) -> Page[Hit]:
        """Return texts that hold `text`, whatever the case of ASCII letters."""
        raise NotImplementedError
