"""How SQLite finds what every click asks for: from the labeler's own rows, never through all submissions."""

import pytest
from sqlalchemy.dialects import sqlite

from instructloop.store import claims, history, pace, work

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def plan(desk, query, names):
    """Return the steps of a query's plan, made without statistics, as in a store that was never analysed."""
    compiled = query.compile(dialect=sqlite.dialect())
    values = tuple((compiled.params | names)[name] for name in compiled.positiontup)
    with desk.store._database.read.connect() as connection:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (claims.HELD, "ix_assignment_held (labeler_id=? AND state=?)"),
        (claims.HELD_ANYWHERE, "ix_assignment_held (labeler_id=? AND state=?)"),
        (claims.NUM_GIVEN, "ix_assignment_labeler (labeler_id=?)"),
        (claims.BEST, "ix_task_open (task_set=? AND cohort=?)"),
        (pace.RECENT, "ix_assignment_labeler (labeler_id=?)"),
        (pace.THEIR_FIRST, "ix_assignment_labeler (labeler_id=?)"),
        (pace.ON_SHARED_TASKS, "ix_assignment_labeler (labeler_id=?)"),
        (history.NEWEST_FIRST, "ix_assignment_labeler (labeler_id=?)"),
        (work.LATEST, "(assignment_id=?)"),
    ],
)
def test_a_query_starts_from_the_labelers_rows_and_scans_no_table(desk, query, index):
    names = {"labeler": "train-ann", "task_set": "s", "cohort": "train", "kind": "compare", "limit": 9}
    steps = plan(desk, query, names | {"assignment": "a"})
    assert index in steps[0]
    assert not any(step.startswith("SCAN") for step in steps)


def test_a_labelers_newest_tasks_come_sorted_from_the_index(desk):
    steps = plan(desk, pace.RECENT, {"labeler": "train-ann", "kind": "compare"})
    assert not any("TEMP B-TREE" in step for step in steps)  # else each autosave would sort their whole history
