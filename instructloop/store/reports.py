"""What researchers read: rows about screening, progress, agreement, labelers, conflicts, hits and exports; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar

from instructloop.core.agreement import Level, Ties
from instructloop.core.rankings import Interval
from instructloop.core.records import Cohort, Completion, Prompt
from instructloop.core.screening import CutOffs
from instructloop.store.rows import TaskKind, Tiers

Row = TypeVar("Row")
GoldPurpose = Literal["screening", "calibration"]
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


# Screening and calibration


@dataclass(frozen=True, slots=True)
class GoldForm:
    """What a researcher holds to be right on one task: tiers over all its completions (or none), flags, and why."""

    tiers: Tiers
    flags: Mapping[str, Mapping[str, bool | None]]
    why: str


@dataclass(frozen=True, slots=True)
class Gold:
    """The newest gold of a task, or one of its versions."""

    task_id: str
    version: int
    purpose: GoldPurpose
    tiers: Tiers
    flags: Mapping[str, Mapping[str, bool | None]]
    why: str
    created_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class GoldTask:
    """A task of screening or calibration, with its newest gold; None while no researcher has judged it."""

    id: str
    task_set: str
    kind: TaskKind
    cohort: Cohort
    purpose: GoldPurpose
    prompt: Prompt
    completions: tuple[Completion, ...]
    num_submitted: int
    gold: Gold | None


@dataclass(frozen=True, slots=True)
class ToGrade:
    """A candidate's demonstration on a sensitive prompt; whose it is stays hidden while it is graded (paper B.1)."""

    submission_id: str
    prompt: Prompt
    text: str
    grades: Mapping[str, int]  # account id -> grade


@dataclass(frozen=True, slots=True)
class Candidate:
    """Someone to be screened, or screened already; `decision` is the newest."""

    labeler: str
    cohort: Cohort
    num_tasks: int  # screening tasks there are
    num_submitted: int
    num_to_grade: int
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class ScreeningReport:
    """A candidate on the four criteria of the paper (B.1); None where nothing could be measured yet.

    Intervals are 95 %, clustered by prompt. The cut-offs meet the estimates, not their intervals: they are soft.
    """

    labeler: str
    cut_offs: CutOffs
    num_tasks: int
    num_submitted: int
    num_gold: int  # submitted comparisons that have gold
    flags: Interval | None  # share of completions on whose being sensitive at all both agree
    flags_ac1: Interval | None  # the same, corrected for chance (Gwet 2008): silence agrees where little is sensitive
    rankings: Interval | None  # share of pairs ordered as the researcher does
    kendall_tau: Interval | None  # mean tau-b over gold tasks
    grade: Interval | None  # mean grade of demonstrations, 1-7
    num_to_grade: int
    median_seconds: float | None  # per submission; active time where the app measured it
    languages: tuple[str, ...]
    topics: str  # self-assessment, in the candidate's words: no number, no cut-off
    tie_rule: str

    @property
    def verdicts(self) -> dict[str, bool | None]:
        """Return criterion -> whether its cut-off is met; None while it is not measured."""
        pairs = {
            "flags": (self.flags, self.cut_offs.flags),
            "rankings": (self.rankings, self.cut_offs.rankings),
            "demonstrations": (self.grade, self.cut_offs.demonstrations),
        }
        return {name: None if got is None else got.value >= least for name, (got, least) in pairs.items()}

    @property
    def is_passed(self) -> bool | None:
        """Whether every criterion is met; None while one is not measured and none is missed."""
        verdicts = set(self.verdicts.values())
        return False if False in verdicts else None if None in verdicts else True


@dataclass(frozen=True, slots=True)
class Decision:
    """A candidate taken or declined, with the figures that the decider saw."""

    id: str
    labeler: str
    is_accepted: bool
    cohort: Cohort | None
    reason: str
    report: Mapping[str, Any]
    decided_by: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Calibration:
    """A labeler's agreement with gold on calibration tasks: the last ones against those before.

    `change` is recent minus earlier (Newcombe 1998, clustered by prompt); None while one of them is missing.
    """

    labeler: str
    num_gold: int
    recent: Interval | None
    earlier: Interval | None
    change: Interval | None
    tie_rule: str

    @property
    def is_drifting(self) -> bool:
        """Whether the labeler agrees less than before, by more than chance allows."""
        return self.change is not None and self.change.high < 0


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a labeler is told after a calibration task: the researcher's order, why, and how far theirs agrees."""

    gold: Gold
    agreement: Interval | None
    tie_rule: str


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
