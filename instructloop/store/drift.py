"""Calibration: a labeler at work against researchers' gold, now against before, and what the labeler is told of it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from instructloop.core.rankings import difference
from instructloop.store import gold
from instructloop.store import tables as t
from instructloop.store.candidates import agreement_with_gold
from instructloop.store.judged import SUBMITTED, JudgedRanking, judged, latest, rankings
from instructloop.store.reports import TIE_RULES
from instructloop.store.screening_reports import Calibration, Feedback, Gold

Pair = tuple[JudgedRanking, Gold]


def calibration(connection: Connection, labeler_id: str, last: int) -> Calibration:
    """Return a labeler's agreement with gold on the last calibration tasks against that on those before."""
    if last < 1:
        raise ValueError(f"last {last} must be at least 1")
    return compared(labeler_id, pairs_by_labeler(connection, labeler_id).get(labeler_id, []), last)


def drifting(connection: Connection, last: int) -> list[Calibration]:
    """Return who agrees less than before by more than chance allows, sorted by id."""
    found = [compared(labeler, pairs, last) for labeler, pairs in sorted(pairs_by_labeler(connection).items())]
    return [one for one in found if one.is_drifting]


def compared(labeler_id: str, pairs: list[Pair], last: int) -> Calibration:
    """Return the agreement on the last pairs against that on the ones before, oldest pair first."""
    recent, earlier = agreement_with_gold(pairs[-last:]), agreement_with_gold(pairs[:-last])
    change = None if recent is None or earlier is None else difference(recent, earlier)
    return Calibration(labeler_id, len(pairs), recent, earlier, change, TIE_RULES["drop"])


def pairs_by_labeler(connection: Connection, labeler_id: str | None = None) -> dict[str, list[Pair]]:
    """Return labeler -> comparisons on calibration tasks whose order is gold, with that gold, oldest first."""
    truths = {key: truth for key, truth in gold.newest(connection, "calibration").items() if truth.tiers}
    found: dict[str, list[Pair]] = {}
    for one in judged(connection, task_sets=[gold.CALIBRATION], labeler=labeler_id):
        if one.task_id in truths:
            found.setdefault(one.labeler, []).append((one, truths[one.task_id]))
    return found


def feedback(connection: Connection, submission_id: str) -> Feedback | None:
    """Return a calibration task's gold and the agreement with it; None for other tasks and where gold is missing."""
    query = select(t.task.c.task_set, t.task.c.id).select_from(SUBMITTED).where(t.submission.c.id == submission_id)
    task = connection.execute(query).first()
    if task is None or task.task_set != gold.CALIBRATION:
        return None
    truth = gold.find(connection, task.id)
    given = rankings(connection, latest(("submitted", "surplus")).where(t.submission.c.id == submission_id))
    if truth is None or not given:
        return None
    agreement = agreement_with_gold([(given[0], truth)]) if truth.tiers else None
    return Feedback(truth, agreement, TIE_RULES["drop"])
