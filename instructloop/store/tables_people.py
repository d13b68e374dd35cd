"""The tables of people in the app: accounts, sessions, invitations, instructions, drafts, screening, audit."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from instructloop.core.records import CATEGORIES, COHORTS
from instructloop.store.tables import Id, Json, UTCDateTime, metadata, one_of

ROLES = ("owner", "researcher", "labeler", "auditor")
ACCOUNT_STATES = ("active", "paused", "removed")
INSTRUCTION_KINDS = ("write_prompt", "demonstrate", "compare", "evaluate", "annotate", "screening")
GOLD_PURPOSES = ("screening", "calibration")
EXPORT_STATES = ("waiting", "running", "done", "failed")

# Name, email and password are NULL once the person was removed: the judgements stay under the labeler's random id.
account = Table(
    "account",
    metadata,
    Column("id", Id, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("labeler_id", String(200), ForeignKey("labeler.id"), unique=True),
    Column("email", String(320), unique=True),  # lower case
    Column("name", Text),
    Column("password_hash", Text),
    Column("languages", Json, nullable=False),  # BCP 47 tags
    Column("topics", Text, nullable=False),  # what they feel able to judge, in their own words (paper B.1)
    Column("preferences", Json, nullable=False),  # keys, theme, layout
    Column("created_at", UTCDateTime, nullable=False),
    Column("removed_at", UTCDateTime),
    one_of("role", ROLES),
    one_of("state", ACCOUNT_STATES),
)

session = Table(
    "session",
    metadata,
    Column("token_hash", String(64), primary_key=True),  # SHA-256 of the cookie; the token itself is nowhere
    Column("account_id", Id, ForeignKey("account.id"), nullable=False, index=True),
    Column("csrf_token", String(64), nullable=False),
    Column("agent_hash", String(64), nullable=False),
    Column("created_at", UTCDateTime, nullable=False),
    Column("last_seen_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
)

invite = Table(
    "invite",
    metadata,
    Column("id", Id, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("cohort", String(16)),  # of labelers and researchers; an auditor has none
    Column("note", Text, nullable=False),
    Column("created_by", Id, ForeignKey("account.id")),  # NULL: the first owner's, printed at the first start
    Column("created_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Column("used_at", UTCDateTime),
    Column("used_by", Id, ForeignKey("account.id")),
    Column("revoked_at", UTCDateTime),
    one_of("role", ROLES),
    one_of("cohort", COHORTS),
)

# A link that an owner or a researcher makes for somebody who forgot the password.
password_link = Table(
    "password_link",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("account_id", Id, ForeignKey("account.id"), nullable=False, index=True),
    Column("created_by", Id, ForeignKey("account.id")),
    Column("created_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Column("used_at", UTCDateTime),
)

# One row per account and one per address that failed to log in; a success deletes the account's.
login_failure = Table(
    "login_failure",
    metadata,
    Column("key", String(80), primary_key=True),  # "account:ID" or "address:SHA-256"
    Column("num_failed", Integer, nullable=False),
    Column("last_failed_at", UTCDateTime, nullable=False),
)

consent = Table(
    "consent",
    metadata,
    Column("account_id", Id, ForeignKey("account.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("agreed_at", UTCDateTime, nullable=False),
)

# Text of one kind, version by version; the newest is shown, and every submission names the version it was made under.
instruction = Table(
    "instruction",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("markdown", Text, nullable=False),
    Column("created_by", Id, ForeignKey("account.id")),
    Column("created_at", UTCDateTime, nullable=False),
    one_of("kind", INSTRUCTION_KINDS),
    CheckConstraint("version >= 1", name="version"),
)

# What is not submitted yet: overwritten by each autosave with a higher rev, deleted when it becomes a submission.
draft = Table(
    "draft",
    metadata,
    Column("assignment_id", Id, ForeignKey("assignment.id"), primary_key=True),
    Column("rev", Integer, nullable=False),
    Column("body", Json, nullable=False),
    Column("saved_at", UTCDateTime, nullable=False),
    CheckConstraint("rev >= 1", name="rev"),
)

# How a submission of the app came about; beside `submission`, for simulated and imported ones have nothing of it.
circumstance = Table(
    "circumstance",
    metadata,
    Column("submission_id", Id, ForeignKey("submission.id"), primary_key=True),
    Column("instruction_kind", String(16)),
    Column("instruction_version", Integer),
    Column("active_seconds", Float, nullable=False),  # page visible and touched within the last minute
    Column("wall_seconds", Float, nullable=False),
    CheckConstraint("active_seconds >= 0 AND wall_seconds >= 0", name="seconds"),
    ForeignKeyConstraint(["instruction_kind", "instruction_version"], ["instruction.kind", "instruction.version"]),
)

# Table 7 of the paper: which questions were asked changed over the project, hence versioned and sparse.
annotation = Table(
    "annotation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("prompt_id", Id, ForeignKey("prompt.id"), nullable=False, index=True),
    Column("labeler_id", String(200), ForeignKey("labeler.id"), nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("category", String(32)),
    Column("fields", Json, nullable=False),  # name -> true, false or null where unanswered
    Column("annotated_at", UTCDateTime, nullable=False),
    one_of("category", CATEGORIES),
)

# How a labeler's own prompt was made: use case, instruction and pairs of a few-shot prompt (paper A.1).
written_prompt = Table(
    "written_prompt",
    metadata,
    Column("prompt_id", Id, ForeignKey("prompt.id"), primary_key=True),
    Column("labeler_id", String(200), ForeignKey("labeler.id"), primary_key=True),
    Column("instruction", Text, nullable=False),
    Column("pairs", Json, nullable=False),  # [[query, completion], …], empty unless few-shot
    Column("use_case", Text, nullable=False),  # empty unless user-based
    Column("written_at", UTCDateTime, nullable=False),
)

# What researchers hold to be right on a task: a gold task of screening, or a calibration task amid normal work.
gold = Table(
    "gold",
    metadata,
    Column("task_id", Id, ForeignKey("task.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("tiers", Json, nullable=False),  # [] where only flags are gold
    Column("flags", Json, nullable=False),  # completion id -> flag -> bool or null
    Column("why", Text, nullable=False),  # shown as feedback after calibration, never during screening
    Column("created_by", Id, ForeignKey("account.id")),
    Column("created_at", UTCDateTime, nullable=False),
    one_of("purpose", GOLD_PURPOSES),
    CheckConstraint("version >= 1", name="version"),
)

grade = Table(
    "grade",
    metadata,
    Column("submission_id", Id, ForeignKey("submission.id"), primary_key=True),
    Column("account_id", Id, ForeignKey("account.id"), primary_key=True),
    Column("grade", Integer, nullable=False),
    Column("graded_at", UTCDateTime, nullable=False),
    CheckConstraint("grade >= 1 AND grade <= 7", name="grade"),
)

decision = Table(
    "decision",
    metadata,
    Column("id", Id, primary_key=True),
    Column("labeler_id", String(200), ForeignKey("labeler.id"), nullable=False, index=True),
    Column("is_accepted", Boolean, nullable=False),
    Column("cohort", String(16)),  # that an accepted one works in from now on
    Column("reason", Text, nullable=False),
    Column("report", Json, nullable=False),  # the figures that the decider saw
    Column("decided_by", Id, ForeignKey("account.id"), nullable=False),
    Column("decided_at", UTCDateTime, nullable=False),
    one_of("cohort", COHORTS),
)

# A researcher's word where labelers disagree; raw judgements stay, exports say both.
adjudication = Table(
    "adjudication",
    metadata,
    Column("id", Id, primary_key=True),
    Column("task_id", Id, ForeignKey("task.id"), nullable=False, index=True),
    Column("tiers", Json, nullable=False),
    Column("reason", Text, nullable=False),
    Column("account_id", Id, ForeignKey("account.id"), nullable=False),
    Column("adjudicated_at", UTCDateTime, nullable=False),
)

prompt_language = Table(
    "prompt_language",
    metadata,
    Column("prompt_id", Id, ForeignKey("prompt.id"), primary_key=True),
    Column("language", String(35), nullable=False),  # BCP 47 tag
)

export_job = Table(
    "export_job",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("options", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_by", Id, ForeignKey("account.id")),
    Column("created_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Column("file", Text),
    Column("manifest", Json),
    Column("error", Text),
    one_of("state", EXPORT_STATES),
)

setting = Table(
    "setting",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("value", Json, nullable=False),
)

audit_event = Table(
    "audit_event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UTCDateTime, nullable=False),
    Column("actor", Id),  # account id; NULL: the command line
    Column("action", String(80), nullable=False),  # noun.verb, as "invite.create"
    Column("object_id", String(200), nullable=False),
    Column("before_hash", String(64)),
    Column("after_hash", String(64)),
    Column("details", Json, nullable=False),  # numbers and ids; never text of prompts, names or secrets
    Column("request_id", String(64)),
)
Index("ix_audit_event_object", audit_event.c.object_id)
Index(
    "ix_invite_open",
    invite.c.expires_at,
    sqlite_where=text("used_at IS NULL"),
    postgresql_where=text("used_at IS NULL"),
)

PEOPLE_APPEND_ONLY = (
    consent,
    instruction,
    circumstance,
    annotation,
    written_prompt,
    gold,
    decision,
    adjudication,
    audit_event,
)
