"""The store's one door: a method per thing that happens, each one transaction, the time passed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

from instructloop.core.records import Cohort, Completion, Prompt, Split
from instructloop.store import catalogue, claims, importing, labelling, language, reading, tasks
from instructloop.store.accounts import Accounts
from instructloop.store.audit import Audit
from instructloop.store.deletion import Deletion
from instructloop.store.desk import Desk
from instructloop.store.engine import Database, open_database
from instructloop.store.exports import Exports
from instructloop.store.research import Research
from instructloop.store.rows import (
    Assignment,
    ComparisonForm,
    DemonstrationRow,
    Imported,
    ImportedDemonstration,
    ImportedRanking,
    Labeler,
    Progress,
    RankingRow,
    TaskItem,
    TaskKind,
)
from instructloop.store.screening import Screening

LEASE_SECONDS = 900.0


class Store:
    """Prompts, completions, labelers, tasks and what people answered; append-only for every answer.

    Ids follow from content, never from the time or the machine: the same actions give the same ids. Safe to share
    between threads and to open in several processes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def accounts(self) -> Accounts:
        """People who may sign in."""
        return Accounts(self._database)

    @property
    def audit(self) -> Audit:
        """Who changed what."""
        return Audit(self._database)

    @property
    def deletion(self) -> Deletion:
        """Removing people."""
        return Deletion(self._database)

    @property
    def desk(self) -> Desk:
        """What a labeler in the app needs."""
        return Desk(self._database)

    @classmethod
    def open(cls, url_or_path: str | Path) -> Store:
        """Open an SQLite file or a database URL, creating it or migrating it as needed."""
        return cls(open_database(url_or_path))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def screening(self) -> Screening:
        """Return what is done about candidates and calibration."""
        return Screening(self._database)

    @property
    def research(self) -> Research:
        """Return what researchers ask."""
        return Research(self._database)

    @property
    def exports(self) -> Exports:
        """Return the list of exports asked for in the app."""
        return Exports(self._database)

    # What can be asked

    def add_prompts(self, prompts: Iterable[Prompt]) -> int:
        """Add prompts and return how many are new; a known one may gain the split or category that it lacked."""
        with self._database.write.begin() as connection:
            return catalogue.add_prompts(connection, prompts)

    def prompts(self, split: Split | None = None, source: str | None = None) -> list[Prompt]:
        """Return prompts sorted by id."""
        with self._database.read.connect() as connection:
            return catalogue.list_prompts(connection, split, source)

    def say_languages(self, languages: Mapping[str, str]) -> int:
        """Keep the language (BCP 47) of prompts, by id, where none was said before; return of how many."""
        with self._database.write.begin() as connection:
            return language.say_languages(connection, languages)

    def add_completions(self, completions: Iterable[Completion]) -> int:
        """Add completions of known prompts and return how many are new."""
        with self._database.write.begin() as connection:
            return catalogue.add_completions(connection, completions)

    def completions(self, ids: Sequence[str] | None = None, policy: str | None = None) -> list[Completion]:
        """Return completions sorted by id: all, those with these ids, those of a policy."""
        with self._database.read.connect() as connection:
            return catalogue.list_completions(connection, ids, policy)

    def add_labeler(self, labeler_id: str, cohort: Cohort, *, now: datetime, origin: str = "simulated") -> None:
        """Add a labeler; the same again changes nothing. `origin`: "simulated", "person" or "import:NAME"."""
        with self._database.write.begin() as connection:
            catalogue.add_labeler(connection, Labeler(labeler_id, cohort, origin), now)

    def labelers(self, cohort: Cohort | None = None) -> list[Labeler]:
        """Return labelers sorted by id."""
        with self._database.read.connect() as connection:
            return catalogue.list_labelers(connection, cohort)

    def open_tasks(
        self,
        task_set: str,
        kind: TaskKind,
        items: Sequence[TaskItem],
        *,
        overlap: int,
        cohort: Cohort,
        now: datetime,
        priority: int = 0,
    ) -> int:
        """Ask `overlap` labelers of a cohort for each item and return how many tasks are new.

        The same item of the same set again opens nothing, so an interrupted stage may simply open all again.
        """
        with self._database.write.begin() as connection:
            return tasks.open_tasks(
                connection, task_set, kind, items, overlap=overlap, cohort=cohort, priority=priority, now=now
            )

    def items(self, task_set: str) -> list[TaskItem]:
        """Return what a task set asks, in the order in which it was opened; ValueError when there is no such set."""
        with self._database.read.connect() as connection:
            return tasks.items(connection, task_set)

    # What labelers do

    def claim(
        self, task_set: str, labeler_id: str, now: datetime, lease_seconds: float = LEASE_SECONDS
    ) -> Assignment | None:
        """Lease the labeler a task of their cohort: the one they hold already, else the next; None when none is left.

        Order: priority, then as opened. A task that they submitted or skipped does not come back; one whose lease ran
        out may.
        """
        with self._database.write.begin() as connection:
            return claims.claim(connection, task_set, labeler_id, now, lease_seconds)

    def heartbeat(self, assignment_id: str, now: datetime, lease_seconds: float = LEASE_SECONDS) -> datetime | None:
        """Prolong a lease and return its new end; None when it ran out and another has the task, or it is over."""
        with self._database.write.begin() as connection:
            return labelling.heartbeat(connection, assignment_id, now, lease_seconds)

    def skip(self, assignment_id: str, reason: str, now: datetime) -> None:
        """Give a task back for good; after three people did, nobody else is asked."""
        with self._database.write.begin() as connection:
            labelling.skip(connection, assignment_id, reason, now)

    def submit_demonstration(
        self, assignment_id: str, text: str, *, now: datetime, idempotency_key: str, seconds: float | None = None
    ) -> str:
        """Store a demonstration and return the submission's id; the same again returns the same id.

        A submission after the lease ran out is accepted while the slot is free, else kept as surplus.
        """
        with self._database.write.begin() as connection:
            sent = labelling.Sent(now, idempotency_key, seconds)
            return labelling.submit(connection, assignment_id, text, sent)[0]

    def submit_comparison(
        self, assignment_id: str, form: ComparisonForm, *, now: datetime, idempotency_key: str
    ) -> str:
        """Store a comparison whole and return the submission's id, as `submit_demonstration` does."""
        with self._database.write.begin() as connection:
            sent = labelling.Sent(now, idempotency_key, form.seconds)
            return labelling.submit(connection, assignment_id, form, sent)[0]

    def revise_demonstration(
        self, submission_id: str, text: str, *, now: datetime, idempotency_key: str, seconds: float | None = None
    ) -> str:
        """Store a correction that names the old submission, which stays; return the new id."""
        with self._database.write.begin() as connection:
            assignment_id = labelling.revised(connection, submission_id)
            sent = labelling.Sent(now, idempotency_key, seconds, revision_of=submission_id)
            return labelling.submit(connection, assignment_id, text, sent)[0]

    def revise_comparison(
        self, submission_id: str, form: ComparisonForm, *, now: datetime, idempotency_key: str
    ) -> str:
        """Store a correction that names the old submission, which stays; return the new id."""
        with self._database.write.begin() as connection:
            assignment_id = labelling.revised(connection, submission_id)
            sent = labelling.Sent(now, idempotency_key, form.seconds, revision_of=submission_id)
            return labelling.submit(connection, assignment_id, form, sent)[0]

    # What comes from outside

    def import_demonstrations(
        self,
        rows: Iterable[ImportedDemonstration],
        *,
        origin: str,
        labeler: str,
        cohort: Cohort,
        now: datetime,
        task_set: str | None = None,
    ) -> Imported:
        """Store demonstrations from outside as finished tasks; the task set is called like the origin if not named."""
        importing.check_origin(origin)
        common = importing.Import(task_set or origin, "demonstrate", origin, labeler, cohort, now)
        with self._database.write.begin() as connection:
            return importing.import_demonstrations(connection, rows, common)

    def import_rankings(
        self,
        rows: Iterable[ImportedRanking],
        *,
        origin: str,
        labeler: str,
        cohort: Cohort,
        now: datetime,
        task_set: str | None = None,
    ) -> Imported:
        """Store rankings from outside as finished tasks, as `import_demonstrations` does."""
        importing.check_origin(origin)
        common = importing.Import(task_set or origin, "compare", origin, labeler, cohort, now)
        with self._database.write.begin() as connection:
            return importing.import_rankings(connection, rows, common)

    # What came of it

    def progress(self, task_set: str) -> Progress:
        """Return where a task set stands."""
        with self._database.read.connect() as connection:
            return reading.progress(connection, task_set)

    def task_sets(self) -> list[Progress]:
        """Return where every task set stands, sorted by name."""
        with self._database.read.connect() as connection:
            return reading.all_progress(connection)

    def demonstrations(self, task_sets: Collection[str], cohorts: Collection[str]) -> Iterator[DemonstrationRow]:
        """Yield the latest accepted demonstrations of these cohorts, sorted by id."""
        with self._database.read.connect() as connection:
            yield from reading.demonstrations(connection, task_sets, cohorts)

    def rankings(self, task_sets: Collection[str], cohorts: Collection[str]) -> Iterator[RankingRow]:
        """Yield the latest accepted comparisons of these cohorts, sorted by id."""
        with self._database.read.connect() as connection:
            yield from reading.rankings(connection, task_sets, cohorts)

    def left_out(self, task_sets: Collection[str], cohorts: Collection[str]) -> dict[str, int]:
        """Return how many submissions of these task sets those two do not yield, by reason."""
        with self._database.read.connect() as connection:
            return reading.left_out(connection, task_sets, cohorts)
