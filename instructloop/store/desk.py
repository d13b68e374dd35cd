"""The labeler's door to the store: their next task, their drafts, their answers; each method one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from instructloop.store import instructing, labelling, work
from instructloop.store import waiting as queue
from instructloop.store.drafts import Draft, StaleDraft
from instructloop.store.engine import Database
from instructloop.store.instructing import Instruction
from instructloop.store.rows import Assignment, ComparisonForm, TaskKind
from instructloop.store.waiting import AtWork
from instructloop.store.work import Answer, DeskItem, Finished, NotTheirs, SavedDraft, Submitted

__all__ = [
    "Answer",
    "AtWork",
    "Desk",
    "DeskItem",
    "Draft",
    "Finished",
    "Instruction",
    "NotTheirs",
    "SavedDraft",
    "StaleDraft",
    "Submitted",
]


class Desk:
    """What a labeler in the app needs; every method that names an assignment refuses another's (NotTheirs)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_assignment(self, labeler_id: str, now: datetime, kind: TaskKind | None = None) -> Assignment | None:
        """Lease the labeler a task of their cohort, from any task set; None when nothing is left for them.

        What they hold comes first, then by priority and age of the task set; one in ten is for calibration. The lease
        lasts three times their median active time, 15 minutes at least.
        """
        with self._database.write.begin() as connection:
            return work.next_assignment(connection, labeler_id, now, kind)

    def assignment(self, assignment_id: str, labeler_id: str) -> DeskItem | None:
        """Return an assignment with draft, instruction and submission, in any state; None for somebody else's."""
        with self._database.read.connect() as connection:
            try:
                row = work.part(connection, assignment_id, labeler_id)
            except NotTheirs:
                return None
            return work.item(connection, row)

    def heartbeat(self, assignment_id: str, labeler_id: str, now: datetime) -> datetime | None:
        """Prolong a lease and return its new end; None when it ran out and another has the task, or it is over."""
        with self._database.write.begin() as connection:
            return work.prolong(connection, work.part(connection, assignment_id, labeler_id), now)

    def save_draft(
        self, assignment_id: str, labeler_id: str, rev: int, body: Mapping[str, Any], now: datetime
    ) -> SavedDraft:
        """Keep what is typed so far and renew the lease; the same save resent changes nothing.

        StaleDraft (with `rev`) when the store has a newer one; Finished when it was submitted or skipped. A lost lease
        keeps the draft (`expires_at` None): a late submission is never thrown away.
        """
        with self._database.write.begin() as connection:
            row = work.part(connection, assignment_id, labeler_id)
            return work.save_draft(connection, row, rev, body, now)

    def submit(
        self,
        assignment_id: str,
        labeler_id: str,
        answer: str | ComparisonForm,
        *,
        key: str,
        active_seconds: float,
        wall_seconds: float,
        instruction: int,
        now: datetime,
    ) -> str:
        """Store a demonstration or comparison with how it came about, delete its draft, return the submission's id.

        The same answer again returns the same id. A comparison must answer every question of every completion: null in
        so many words where none applies. `instruction` is the version that was shown.
        """
        sent = Answer(answer, key, active_seconds, wall_seconds, instruction)
        with self._database.write.begin() as connection:
            return work.submit(connection, work.part(connection, assignment_id, labeler_id), sent, now)

    def revise(
        self,
        assignment_id: str,
        labeler_id: str,
        answer: str | ComparisonForm,
        *,
        key: str,
        active_seconds: float,
        wall_seconds: float,
        instruction: int,
        now: datetime,
    ) -> str:
        """Store a correction of the latest submission on an assignment, which stays; return the new one's id."""
        sent = Answer(answer, key, active_seconds, wall_seconds, instruction)
        with self._database.write.begin() as connection:
            row = work.part(connection, assignment_id, labeler_id)
            return work.submit(connection, row, sent, now, is_revision=True)

    def skip(self, assignment_id: str, labeler_id: str, reason: str, now: datetime) -> None:
        """Give a task back for a reason, for good; a draft on it stays, for a skipped task may still be submitted."""
        with self._database.write.begin() as connection:
            work.part(connection, assignment_id, labeler_id)
            labelling.skip(connection, assignment_id, reason, now)

    def waiting(self, labeler_id: str, now: datetime) -> dict[TaskKind, int]:
        """Return how many tasks of each kind a labeler could do now, what they hold included, calibration not."""
        with self._database.read.connect() as connection:
            return queue.waiting(connection, labeler_id, now)

    def who_is_at_it(self, task_set: str, now: datetime) -> list[AtWork]:
        """Return whose leases of a task set run now, sorted by labeler."""
        with self._database.read.connect() as connection:
            return queue.who_is_at_it(connection, task_set, now)

    def instruction(self, kind: str) -> Instruction:
        """Return the text of a kind that is shown now; before anybody changed it, that of the package, version 1."""
        with self._database.read.connect() as connection:
            return instructing.newest(connection, kind)

    def instructions(self) -> list[Instruction]:
        """Return every version of every kind, each kind's newest first."""
        with self._database.read.connect() as connection:
            return instructing.versions(connection)

    def add_instruction(self, kind: str, markdown: str, by: str | None, now: datetime) -> Instruction:
        """Add the next version of a text, shown from now on, and return it; the shown text again adds nothing."""
        with self._database.write.begin() as connection:
            return instructing.add(connection, kind, markdown, by, now)
