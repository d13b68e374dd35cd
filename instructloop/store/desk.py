"""The labeler's door to the store: their next task, their drafts, their answers; each method one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from instructloop.core.rankings import Interval
from instructloop.core.records import Category, Kind, Prompt
from instructloop.store import annotations, history, instructing, labelling, pace, work, writing
from instructloop.store import waiting as queue
from instructloop.store.annotations import Annotation
from instructloop.store.drafts import Draft, StaleDraft
from instructloop.store.engine import Database
from instructloop.store.history import DoneItem
from instructloop.store.instructing import Instruction
from instructloop.store.language import say_languages
from instructloop.store.pace import Pace
from instructloop.store.rows import Assignment, ComparisonForm, TaskKind
from instructloop.store.waiting import AtWork
from instructloop.store.work import Answer, DeskItem, Finished, NotTheirs, SavedDraft, Submitted
from instructloop.store.writing import WrittenPrompt

__all__ = [
    "Annotation",
    "Answer",
    "AtWork",
    "Desk",
    "DeskItem",
    "DoneItem",
    "Draft",
    "Finished",
    "Instruction",
    "NotTheirs",
    "Pace",
    "SavedDraft",
    "StaleDraft",
    "Submitted",
    "WrittenPrompt",
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

    def history(self, labeler_id: str, limit: int = 50, before: str | None = None) -> list[DoneItem]:
        """Return what a labeler has answered, newest first; `before` is the last assignment of the page before."""
        with self._database.read.connect() as connection:
            return history.history(connection, labeler_id, limit, before)

    def pace(self, labeler_id: str, now: datetime) -> Pace:
        """Return how much a labeler has done up to now, and how fast."""
        with self._database.read.connect() as connection:
            return pace.pace(connection, labeler_id, now)

    def agreement(self, labeler_id: str) -> Interval | None:
        """Return how far others who did the same tasks agree, tied pairs left out; None while nobody did."""
        with self._database.read.connect() as connection:
            return pace.agreement(connection, labeler_id)

    def annotate(
        self,
        prompt_id: str,
        labeler_id: str,
        category: Category | None,
        fields: Mapping[str, bool | None],
        now: datetime,
    ) -> Annotation:
        """Add a labeler's word on a prompt (Table 7), after which their earlier one counts no more."""
        with self._database.write.begin() as connection:
            return annotations.annotate(connection, prompt_id, labeler_id, category, fields, now)

    def annotations(self, prompt_id: str) -> list[Annotation]:
        """Return the newest word of each labeler on a prompt, sorted by labeler."""
        with self._database.read.connect() as connection:
            return annotations.of_prompt(connection, prompt_id)

    def write_prompt(
        self,
        labeler_id: str,
        kind: Kind,
        instruction: str,
        pairs: Sequence[tuple[str, str]],
        use_case: str,
        now: datetime,
        *,
        language: str | None = None,
    ) -> Prompt:
        """Add a labeler's own prompt: pairs (query, completion) for a few-shot one, a use case for a user-based one."""
        with self._database.write.begin() as connection:
            prompt = writing.write_prompt(connection, labeler_id, kind, instruction, pairs, use_case, now)
            if language is not None:
                say_languages(connection, {prompt.id: language})
            return prompt

    def written(self, labeler_id: str, limit: int = 50) -> list[WrittenPrompt]:
        """Return a labeler's own prompts, newest first."""
        with self._database.read.connect() as connection:
            return writing.written(connection, labeler_id, limit)

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
