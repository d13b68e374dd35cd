"""What researchers read: rows about progress, agreement, labelers, conflicts, hits and exports; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar

from instructloop.core.agreement import Level, Ties
from instructloop.core.rankings import Interval
from instructloop.core.records import Cohort, Completion, Prompt
from instructloop.store.rows import TaskKind, Tiers
from instructloop.store.screening_reports import Calibration

Row = TypeVar("Row")
TaskPurpose = Literal["work", "screening", "calibration"]
HitKind = Literal["prompt", "completion", "demonstration", "note"]
ExportKind = Literal["judgements", "sft", "rankings", "pairs", "frozen"]
ExportState = Literal["waiting", "running", "done", "failed"]

TIE_RULES: Mapping[Ties, str] = {
    "drop": "Pairs of completions that either side ties are left out.",
    "half": "A tie of one side alone counts as half an agreement, a tie of both as a whole one.",
    "strict": "Better, worse and tied are three outcomes; only the same one is agreement.",
}
"""How ties count in agreement, in the words that stand beside every figure."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """A part of a longer list, and how long the whole is."""

    rows: tuple[Row, ...]
    total: int


# Progress


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Where the tasks of one set and cohort stand; `num_wanted` is the target set for them, else all that are open."""

    task_set: str
    kind: TaskKind
    cohort: Cohort
    purpose: TaskPurpose
    opened_at: datetime
    num_tasks: int
    num_wanted: int
    num_submitted: int
    num_leased: int
    num_skipped: int
    num_surplus: int
    num_set_aside: int
    num_remaining: int
    last_submitted_at: datetime | None


@dataclass(frozen=True, slots=True)
class DayCount:
    """How many judgements of one kind came from one cohort on one day (UTC)."""

    day: date
    kind: TaskKind
    cohort: Cohort
    num_submitted: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """A task that three people skipped and nobody is asked any more, with their reasons."""

    task_id: str
    task_set: str
    kind: TaskKind
    prompt: Prompt
    reasons: tuple[str, ...]


# Agreement


@dataclass(frozen=True, slots=True)
class FieldAgreement:
    """How far labelers agree on one field of the form; a field that nobody used in two ways has no alpha."""

    field: str  # "rating" or a flag
    level: Level
    alpha: Interval | None  # Krippendorff's
    kappa: Interval | None  # Fleiss', where every completion was judged by equally many
    ac1: Interval | None  # Gwet's, which rare flags do not drag down; flags only
    share: Interval | None  # of pairs of labelers who say exactly the same
    num_labelers: int
    num_true_fraction: float | None  # how often the flag is raised; None for ratings


@dataclass(frozen=True, slots=True)
class AgreementReport:
    """Agreement over some task sets and cohorts; pairwise figures follow `ties`, intervals are clustered by prompt."""

    ties: Ties
    tie_rule: str
    num_judgements: int
    overall: Interval | None
    by_labeler: tuple[tuple[str, Interval], ...]
    by_pair: tuple[tuple[str, str, Interval], ...]
    by_week: tuple[tuple[date, Interval], ...]  # Monday of the week in which the later of the two was submitted
    fields: tuple[FieldAgreement, ...]


# Labelers


@dataclass(frozen=True, slots=True)
class LabelerRow:
    """One labeler's work in figures; intervals are 95 %, clustered by prompt, None where there is nothing to count."""

    id: str
    cohort: Cohort
    origin: str
    num_submitted: int
    num_comparisons: int
    num_skipped: int
    num_surplus: int
    median_seconds: float | None
    per_hour: float | None  # submissions per hour of active time
    agreement: Interval | None  # with all others, ties left out
    position_bias: Interval | None  # share of untied pairs whose first shown is preferred; .5 is none
    tie_rate: Interval | None  # share of pairs tied
    skip_rate: Interval | None  # share of tasks ended that were skipped
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class WeekPace:
    """One labeler's week: submissions, and the median of their seconds."""

    monday: date
    num_submitted: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class LabelerDetail:
    """One labeler's figures with their weeks, reasons to skip and newest submissions."""

    row: LabelerRow
    weeks: tuple[WeekPace, ...]
    reasons: Mapping[str, int]
    last: tuple[SubmissionHead, ...]
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class SubmissionHead:
    """A submission without its content."""

    id: str
    task_id: str
    task_set: str
    kind: TaskKind
    prompt_id: str
    prompt_text: str
    state: str
    is_revision: bool
    seconds: float | None
    submitted_at: datetime


# Conflicts


@dataclass(frozen=True, slots=True)
class Conflict:
    """A task on which labelers disagree; agreement counts a one-sided tie as half."""

    task_id: str
    task_set: str
    cohort: Cohort
    prompt: Prompt
    num_judgements: int
    agreement: float
    num_pairs: int
    is_adjudicated: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """One labeler's comparison as a researcher sees it beside the others'."""

    submission_id: str
    labeler: str
    shown: tuple[str, ...]
    tiers: Tiers
    ratings: Mapping[str, int | None]
    flags: Mapping[str, Mapping[str, bool | None]]
    notes: Mapping[str, str]
    submitted_at: datetime


@dataclass(frozen=True, slots=True)
class Adjudication:
    """A researcher's word on a task; the labelers' judgements stay beside it."""

    id: str
    task_id: str
    tiers: Tiers
    reason: str
    account_id: str
    adjudicated_at: datetime


@dataclass(frozen=True, slots=True)
class ConflictDetail:
    """All that was judged on one task."""

    conflict: Conflict
    completions: tuple[Completion, ...]
    judgements: tuple[Judgement, ...]
    adjudications: tuple[Adjudication, ...]  # newest first


@dataclass(frozen=True, slots=True)
class Hit:
    """A text in which a search found its words; `who` is the prompt's source, the policy, or the labeler."""

    kind: HitKind
    id: str
    prompt_id: str
    excerpt: str
    who: str


# Exports


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export holds; None: all task sets of its kind but those of screening and calibration.

    Cohorts None: "train" for training kinds; every cohort for judgements.
    """

    format: Literal["jsonl", "csv"] = "jsonl"
    task_sets: tuple[str, ...] | None = None
    cohorts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExportJob:
    """An export asked for in the app, from waiting to done or failed."""

    id: str
    kind: ExportKind
    options: ExportOptions
    state: ExportState
    created_by: str | None
    created_at: datetime
    finished_at: datetime | None
    file: str | None
    manifest: Mapping[str, Any] | None
    error: str | None
