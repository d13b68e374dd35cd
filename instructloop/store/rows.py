"""What goes into the store and comes out of it, as plain records; no SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from instructloop.core.records import Cohort, Completion, Prompt

TaskKind = Literal["demonstrate", "compare"]
Tiers = tuple[tuple[str, ...], ...]
Flags = Mapping[str, bool | None]


@dataclass(frozen=True, slots=True)
class Labeler:
    """A person who labels, or a simulated one; `origin` is "simulated", "person" or "import:NAME"."""

    id: str
    cohort: Cohort
    origin: str


@dataclass(frozen=True, slots=True)
class TaskItem:
    """One thing to ask labelers: a prompt to answer, or completions of it to compare; `overlap` overrides the set's."""

    prompt_id: str
    completion_ids: tuple[str, ...] = ()
    overlap: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task leased to one labeler; `completions` stand in the order in which this labeler sees them."""

    id: str
    task_id: str
    kind: TaskKind
    prompt: Prompt
    completions: tuple[Completion, ...]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ComparisonForm:
    """One labeler's whole answer on one task: tiers over all completions shown, ratings 1-7, flags, notes.

    What is absent or None was not answered and is stored as NULL. Completions in one tier are tied.
    """

    ratings: Mapping[str, int | None]
    flags: Mapping[str, Flags]
    tiers: Sequence[Sequence[str]]
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one task set stands; a judgement is one accepted submission of one labeler."""

    task_set: str
    kind: TaskKind
    num_tasks: int
    num_judgements_wanted: int
    num_submitted: int
    num_leased: int
    num_skipped: int
    num_surplus: int  # came after the lease had run out and another had taken the slot: kept, never frozen
    num_set_aside: int  # tasks that three people skipped
    num_remaining: int  # judgements still to come, leased ones included, those of tasks set aside not
    labelers: list[tuple[str, int]]  # id, accepted submissions
    reasons: dict[str, int]  # why tasks were skipped

    @property
    def is_done(self) -> bool:
        """Whether labelers have nothing left to do."""
        return self.num_remaining == 0


@dataclass(frozen=True, slots=True)
class DemonstrationRow:
    """A demonstration with all that a frozen row says of it; `id` is that of its submission."""

    id: str
    prompt: Prompt
    text: str
    labeler: str
    cohort: Cohort
    origin: str
    task_set: str


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One labeler's comparison with all that a frozen row says of it.

    `shown` is the order of presentation, empty for imported rankings, where nobody knows it.
    """

    id: str
    prompt: Prompt
    labeler: str
    cohort: Cohort
    origin: str
    task_set: str
    completions: tuple[Completion, ...]
    shown: tuple[str, ...]
    tiers: Tiers
    ratings: dict[str, int | None]
    flags: dict[str, dict[str, bool | None]]
    notes: dict[str, str]


@dataclass(frozen=True, slots=True)
class ImportedDemonstration:
    """A demonstration from outside; `labeler` None: the labeler named for the whole import."""

    prompt: Prompt
    text: str
    labeler: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedRanking:
    """A ranking from outside: `tiers` are positions in `completions`, best tier first, one tier = tied."""

    prompt: Prompt
    completions: Sequence[str]
    tiers: Sequence[Sequence[int]]
    policies: Sequence[str] | None = None  # who wrote each completion; None: nobody knows, "unknown"
    ratings: Sequence[int | None] | None = None
    labeler: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: rows read, rows kept, rows dropped by reason; read = kept + dropped."""

    num_read: int
    num_kept: int
    dropped: dict[str, int]
