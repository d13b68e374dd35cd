"""The tables of the store and the column types they share; no query and no engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from instructloop.core.records import CATEGORIES, COHORTS, SPLITS

TASK_KINDS = ("demonstrate", "compare")
PROMPT_KINDS = ("plain", "few_shot", "user_based")
STATES = ("leased", "submitted", "surplus", "skipped", "expired")
SKIPS_BEFORE_SET_ASIDE = 3
"""A task that so many people skipped is offered to nobody else (paper 1.2: unclear prompts are skipped)."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Json = JSON().with_variant(JSONB(), "postgresql")
Id = String(64)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC; SQLite keeps no time zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC; a naive one is our own mistake, the store's doors refuse it."""
        assert value is None or value.tzinfo is not None
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the stored time as an aware one in UTC; PostgreSQL gives the session's time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def one_of(column: str, values: Sequence[str]) -> CheckConstraint:
    """Return the rule that a column holds one of these words: an enumeration that every database can widen later."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)


prompt = Table(
    "prompt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("text", Text, nullable=False),
    Column("source", String(200), nullable=False),
    Column("user_key", Text, nullable=False),
    Column("split", String(16)),
    Column("kind", String(16), nullable=False),
    Column("category", String(32)),
    one_of("split", SPLITS),
    one_of("kind", PROMPT_KINDS),
    one_of("category", CATEGORIES),
    Index(None, "split", "source"),
)

labeler = Table(
    "labeler",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("cohort", String(16), nullable=False),
    Column("origin", String(200), nullable=False),
    Column("added_at", UTCDateTime, nullable=False),
    one_of("cohort", COHORTS),
)

completion = Table(
    "completion",
    metadata,
    Column("id", Id, primary_key=True),
    Column("prompt_id", Id, ForeignKey("prompt.id"), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("policy", String(200), nullable=False, index=True),
    Column("policy_run", String(200), nullable=False),
    Column("sample_index", Integer, nullable=False),
    Column("sampling", Json, nullable=False),
    Column("is_finished", Boolean, nullable=False),
)

# num_held counts live leases and accepted submissions: the slots that are taken. The CHECKs make the database itself
# refuse one judgement too many.
task = Table(
    "task",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task_set", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("prompt_id", Id, ForeignKey("prompt.id"), nullable=False),
    Column("cohort", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("overlap", Integer, nullable=False),
    Column("num_held", Integer, nullable=False),
    Column("num_submitted", Integer, nullable=False),
    Column("num_skipped", Integer, nullable=False),
    Column("opened_at", UTCDateTime, nullable=False),
    one_of("kind", TASK_KINDS),
    one_of("cohort", COHORTS),
    CheckConstraint("overlap >= 1", name="overlap"),
    CheckConstraint("num_held >= 0 AND num_held <= overlap", name="num_held"),
    CheckConstraint("num_submitted >= 0 AND num_submitted <= num_held", name="num_submitted"),
    CheckConstraint("num_skipped >= 0", name="num_skipped"),
    UniqueConstraint("task_set", "position"),
)
Index(
    "ix_task_open",
    task.c.task_set,
    task.c.cohort,
    task.c.priority.desc(),
    task.c.position,
    sqlite_where=text(f"num_held < overlap AND num_skipped < {SKIPS_BEFORE_SET_ASIDE}"),
    postgresql_where=text(f"num_held < overlap AND num_skipped < {SKIPS_BEFORE_SET_ASIDE}"),
)

task_completion = Table(
    "task_completion",
    metadata,
    Column("task_id", Id, ForeignKey("task.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("completion_id", Id, ForeignKey("completion.id"), nullable=False),
    UniqueConstraint("task_id", "completion_id"),
)

# One row per task and labeler. A lease that ran out may be taken up again by its owner; nobody meets a task twice.
assignment = Table(
    "assignment",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task_id", Id, ForeignKey("task.id"), nullable=False),
    Column("labeler_id", String(200), ForeignKey("labeler.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("shown", Json, nullable=False),
    Column("claimed_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime),
    Column("skip_reason", Text),
    one_of("state", STATES),
    CheckConstraint("state != 'leased' OR expires_at IS NOT NULL", name="lease"),
    CheckConstraint("state != 'skipped' OR skip_reason IS NOT NULL", name="skip_reason"),
    UniqueConstraint("task_id", "labeler_id"),
)
Index(
    "ix_assignment_lease",
    assignment.c.expires_at,
    sqlite_where=text("state = 'leased'"),
    postgresql_where=text("state = 'leased'"),
)
# With the state in it SQLite prefers it to the labeler's whole history, which has no more equal columns.
Index(
    "ix_assignment_held",
    assignment.c.labeler_id,
    assignment.c.state,
    sqlite_where=text("state = 'leased'"),
    postgresql_where=text("state = 'leased'"),
)
Index("ix_assignment_labeler", assignment.c.labeler_id, assignment.c.claimed_at)

# Append-only, all four: triggers of the first migration refuse UPDATE and DELETE.
submission = Table(
    "submission",
    metadata,
    Column("id", Id, primary_key=True),
    Column("assignment_id", Id, ForeignKey("assignment.id"), nullable=False),
    Column("revision_of", Id, ForeignKey("submission.id"), unique=True),
    Column("idempotency_key", String(200), nullable=False),
    Column("origin", String(200), nullable=False),
    Column("seconds", Float),
    Column("submitted_at", UTCDateTime, nullable=False),
    CheckConstraint("seconds >= 0", name="seconds"),
    UniqueConstraint("assignment_id", "idempotency_key"),
)
Index(
    "uq_submission_first",
    submission.c.assignment_id,
    unique=True,
    sqlite_where=text("revision_of IS NULL"),
    postgresql_where=text("revision_of IS NULL"),
)

demonstration = Table(
    "demonstration",
    metadata,
    Column("submission_id", Id, ForeignKey("submission.id"), primary_key=True),
    Column("text", Text, nullable=False),
)

comparison = Table(
    "comparison",
    metadata,
    Column("submission_id", Id, ForeignKey("submission.id"), primary_key=True),
    Column("tiers", Json, nullable=False),
)

# rating and the values in flags are NULL where the labeler did not answer. flags is JSON because the questions change
# over a project (paper, Table 7: fields were added and dropped).
rating = Table(
    "rating",
    metadata,
    Column("submission_id", Id, ForeignKey("submission.id"), primary_key=True),
    Column("completion_id", Id, ForeignKey("completion.id"), primary_key=True),
    Column("rating", Integer),
    Column("flags", Json, nullable=False),
    Column("note", Text),
    CheckConstraint("rating >= 1 AND rating <= 7", name="rating"),
)

APPEND_ONLY = (submission, demonstration, comparison, rating)
