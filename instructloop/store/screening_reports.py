"""What researchers read of candidates and of calibration: gold, grades, reports, decisions, drift; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from instructloop.core.rankings import Interval
from instructloop.core.records import Cohort, Completion, Prompt
from instructloop.core.screening import CutOffs
from instructloop.store.rows import TaskKind, Tiers

GoldPurpose = Literal["screening", "calibration"]


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
