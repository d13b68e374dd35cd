"""Screening and calibration, one transaction a method: gold, grades, reports, decisions, drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from instructloop.core.records import Cohort
from instructloop.core.screening import CutOffs
from instructloop.store import candidates, decisions, drift, gold, gold_files
from instructloop.store.engine import Database
from instructloop.store.rows import Imported, TaskItem
from instructloop.store.screening_reports import (
    Calibration,
    Candidate,
    Decision,
    Feedback,
    Gold,
    GoldForm,
    GoldPurpose,
    GoldTask,
    ScreeningReport,
    ToGrade,
)


class Screening:
    """Would-be labelers against researchers' gold (paper B.1), and labelers at work against gold amid their tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Settings

    def cut_offs(self) -> CutOffs:
        """Return the cut-offs that apply: the paper's until others are set."""
        with self._database.read.connect() as connection:
            return candidates.cut_offs(connection)

    def set_cut_offs(self, cut_offs: CutOffs, *, by: str, now: datetime) -> None:
        """Set the cut-offs of all reports from now on; decisions keep the report that was seen."""
        with self._database.write.begin() as connection:
            candidates.set_cut_offs(connection, cut_offs, by=by, now=now)

    # Gold

    def open_sets(
        self,
        items: Sequence[TaskItem],
        *,
        purpose: GoldPurpose,
        cohort: Cohort,
        num_people: int,
        by: str,
        now: datetime,
    ) -> int:
        """Open comparisons of known completions for screening or calibration and return how many are new.

        Screening is of cohort "screening". Each task is for `num_people` people: everyone is to meet each.
        """
        with self._database.write.begin() as connection:
            task_set = gold.SCREENING if purpose == "screening" else gold.CALIBRATION
            return gold.open_sets(
                connection, task_set, "compare", items, cohort=cohort, num_people=num_people, by=by, now=now
            )

    def open_writing(self, prompt_ids: Sequence[str], *, num_people: int, by: str, now: datetime) -> int:
        """Open demonstrations on sensitive prompts for candidates and return how many are new."""
        with self._database.write.begin() as connection:
            items = [TaskItem(prompt_id) for prompt_id in prompt_ids]
            task_set = gold.SCREENING_WRITING
            return gold.open_sets(
                connection, task_set, "demonstrate", items, cohort="screening", num_people=num_people, by=by, now=now
            )

    def import_sets(
        self, path: Path, *, purpose: GoldPurpose, cohort: Cohort, num_people: int, by: str, now: datetime
    ) -> Imported:
        """Open tasks, with gold where given, from a file of JSON lines: prompt, completions, tiers?, flags?, why?.

        `tiers` are positions in `completions`, best first; `flags` one object per completion. A line without
        completions is a prompt to write a demonstration for.
        """
        with self._database.write.begin() as connection:
            return gold_files.import_sets(
                connection, path, purpose=purpose, cohort=cohort, num_people=num_people, by=by, now=now
            )

    def gold_tasks(self, purpose: GoldPurpose | None = None) -> list[GoldTask]:
        """Return the tasks of screening and calibration in the order in which they were opened."""
        with self._database.read.connect() as connection:
            return gold.tasks(connection, purpose)

    def gold(self, task_id: str, version: int | None = None) -> Gold | None:
        """Return the gold of a task: this version, else the newest."""
        with self._database.read.connect() as connection:
            return gold.find(connection, task_id, version)

    def set_gold(self, task_id: str, form: GoldForm, *, by: str, now: datetime) -> int:
        """Add a version of a task's gold and return its number; earlier versions stay."""
        with self._database.write.begin() as connection:
            return gold.set_gold(connection, task_id, form, by=by, now=now)

    # Demonstrations

    def to_grade(self, by: str) -> list[ToGrade]:
        """Return candidates' demonstrations that this account has not graded, longest waiting first."""
        with self._database.read.connect() as connection:
            return candidates.to_grade(connection, by)

    def grade(self, submission_id: str, grade: int, *, by: str, now: datetime) -> None:
        """Grade a candidate's demonstration from 1 to 7; the same person's later grade replaces the earlier."""
        with self._database.write.begin() as connection:
            candidates.grade(connection, submission_id, grade, by=by, now=now)

    # Candidates

    def candidates(self) -> list[Candidate]:
        """Return the labelers of cohort "screening" and those decided on, sorted by id."""
        with self._database.read.connect() as connection:
            return decisions.candidates(connection)

    def report(self, labeler_id: str, cut_offs: CutOffs | None = None) -> ScreeningReport:
        """Return how a candidate does; ValueError for an unknown labeler."""
        with self._database.read.connect() as connection:
            return candidates.report(connection, labeler_id, cut_offs)

    def decide(
        self, labeler_id: str, is_accepted: bool, *, cohort: Cohort | None, reason: str, by: str, now: datetime
    ) -> Decision:
        """Accept a candidate into a cohort, or decline, and keep the report that the decision rests on."""
        with self._database.write.begin() as connection:
            return decisions.decide(connection, labeler_id, is_accepted, cohort=cohort, reason=reason, by=by, now=now)

    def decisions(self, labeler_id: str) -> list[Decision]:
        """Return the decisions about a labeler, newest first."""
        with self._database.read.connect() as connection:
            return decisions.decisions(connection, labeler_id)

    # Calibration

    def calibration(self, labeler_id: str, last: int = 20) -> Calibration:
        """Return the agreement with gold on the last calibration tasks against that on the ones before."""
        with self._database.read.connect() as connection:
            return drift.calibration(connection, labeler_id, last)

    def drifting(self, last: int = 20) -> list[Calibration]:
        """Return the labelers whose agreement with gold has fallen by more than chance allows."""
        with self._database.read.connect() as connection:
            return drift.drifting(connection, last)

    def feedback(self, submission_id: str) -> Feedback | None:
        """Return what to tell a labeler after a calibration task; None for other tasks: screening tells nothing."""
        with self._database.read.connect() as connection:
            return drift.feedback(connection, submission_id)
