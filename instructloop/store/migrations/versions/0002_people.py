"""People in the app: accounts, sessions, invitations, instructions, drafts, screening, adjudication, exports, audit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
APPEND_ONLY = (
    "consent",
    "instruction",
    "circumstance",
    "annotation",
    "written_prompt",
    "gold",
    "decision",
    "adjudication",
    "audit_event",
)


def upgrade() -> None:
    op.create_index("ix_assignment_labeler", "assignment", ["labeler_id", "claimed_at"])
    index_leases(["labeler_id", "state"])
    create_tables()
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            forbid(table, event)


def index_leases(columns: list[str]) -> None:
    is_leased = sa.text("state = 'leased'")
    op.drop_index("ix_assignment_held", "assignment")
    op.create_index("ix_assignment_held", "assignment", columns, sqlite_where=is_leased, postgresql_where=is_leased)


def forbid(table: str, event: str) -> None:
    head = f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} FOR EACH ROW"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"{head} EXECUTE FUNCTION append_only()")
    else:
        op.execute(f"{head} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END")


def create_tables() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=True),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("object_id", sa.String(length=200), nullable=False),
        sa.Column("before_hash", sa.String(length=64), nullable=True),
        sa.Column("after_hash", sa.String(length=64), nullable=True),
        sa.Column("details", JSON, nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.create_index("ix_audit_event_object", ["object_id"], unique=False)

    op.create_table(
        "login_failure",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("num_failed", sa.Integer(), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failure")),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("labeler_id", sa.String(length=200), nullable=True),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("languages", JSON, nullable=False),
        sa.Column("topics", sa.Text(), nullable=False),
        sa.Column("preferences", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('owner', 'researcher', 'labeler', 'auditor')", name=op.f("ck_account_role")),
        sa.CheckConstraint("state IN ('active', 'paused', 'removed')", name=op.f("ck_account_state")),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_account_labeler_id_labeler")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("email", name=op.f("uq_account_email")),
        sa.UniqueConstraint("labeler_id", name=op.f("uq_account_labeler_id")),
    )
    op.create_table(
        "annotation",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("labeler_id", sa.String(length=200), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=True),
        sa.Column("fields", JSON, nullable=False),
        sa.Column("annotated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "category IN ('generation', 'open_qa', 'brainstorming', 'chat', 'rewrite', 'summarization', 'classification', 'other', 'closed_qa', 'extract')",
            name=op.f("ck_annotation_category"),
        ),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_annotation_labeler_id_labeler")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_annotation_prompt_id_prompt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
    )
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_prompt_id"), ["prompt_id"], unique=False)

    op.create_table(
        "written_prompt",
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("labeler_id", sa.String(length=200), nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("pairs", JSON, nullable=False),
        sa.Column("use_case", sa.Text(), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_written_prompt_labeler_id_labeler")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_written_prompt_prompt_id_prompt")),
        sa.PrimaryKeyConstraint("prompt_id", "labeler_id", name=op.f("pk_written_prompt")),
    )
    op.create_table(
        "adjudication",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("tiers", JSON, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("adjudicated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_adjudication_account_id_account")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_adjudication_task_id_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudication")),
    )
    with op.batch_alter_table("adjudication", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_adjudication_task_id"), ["task_id"], unique=False)

    op.create_table(
        "consent",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("agreed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_consent_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", "version", name=op.f("pk_consent")),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("labeler_id", sa.String(length=200), nullable=False),
        sa.Column("is_accepted", sa.Boolean(), nullable=False),
        sa.Column("cohort", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("report", JSON, nullable=False),
        sa.Column("decided_by", sa.String(length=64), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "cohort IN ('train', 'heldout', 'screening', 'researcher')", name=op.f("ck_decision_cohort")
        ),
        sa.ForeignKeyConstraint(["decided_by"], ["account.id"], name=op.f("fk_decision_decided_by_account")),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_decision_labeler_id_labeler")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_decision_labeler_id"), ["labeler_id"], unique=False)

    op.create_table(
        "export_job",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("manifest", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name=op.f("ck_export_job_state")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_export_job_created_by_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export_job")),
    )
    op.create_table(
        "gold",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("tiers", JSON, nullable=False),
        sa.Column("flags", JSON, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("purpose IN ('screening', 'calibration')", name=op.f("ck_gold_purpose")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_gold_version")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_gold_created_by_account")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_gold_task_id_task")),
        sa.PrimaryKeyConstraint("task_id", "version", name=op.f("pk_gold")),
    )
    op.create_table(
        "instruction",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("markdown", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "kind IN ('write_prompt', 'demonstrate', 'compare', 'evaluate', 'annotate', 'screening')",
            name=op.f("ck_instruction_kind"),
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_instruction_version")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_instruction_created_by_account")),
        sa.PrimaryKeyConstraint("kind", "version", name=op.f("pk_instruction")),
    )
    op.create_table(
        "invite",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("cohort", sa.String(length=16), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.String(length=64), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("cohort IN ('train', 'heldout', 'screening', 'researcher')", name=op.f("ck_invite_cohort")),
        sa.CheckConstraint("role IN ('owner', 'researcher', 'labeler', 'auditor')", name=op.f("ck_invite_role")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_invite_created_by_account")),
        sa.ForeignKeyConstraint(["used_by"], ["account.id"], name=op.f("fk_invite_used_by_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invite")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invite_token_hash")),
    )
    with op.batch_alter_table("invite", schema=None) as batch_op:
        batch_op.create_index(
            "ix_invite_open",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("used_at IS NULL"),
            postgresql_where=sa.text("used_at IS NULL"),
        )

    op.create_table(
        "session",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("csrf_token", sa.String(length=64), nullable=False),
        sa.Column("agent_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_session_account_id_account")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_session")),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_session_account_id"), ["account_id"], unique=False)

    op.create_table(
        "draft",
        sa.Column("assignment_id", sa.String(length=64), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("body", JSON, nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("rev >= 1", name=op.f("ck_draft_rev")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_draft_assignment_id_assignment")),
        sa.PrimaryKeyConstraint("assignment_id", name=op.f("pk_draft")),
    )
    op.create_table(
        "circumstance",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("instruction_kind", sa.String(length=16), nullable=True),
        sa.Column("instruction_version", sa.Integer(), nullable=True),
        sa.Column("active_seconds", sa.Float(), nullable=False),
        sa.Column("wall_seconds", sa.Float(), nullable=False),
        sa.CheckConstraint("active_seconds >= 0 AND wall_seconds >= 0", name=op.f("ck_circumstance_seconds")),
        sa.ForeignKeyConstraint(
            ["instruction_kind", "instruction_version"],
            ["instruction.kind", "instruction.version"],
            name=op.f("fk_circumstance_instruction_kind_instruction"),
        ),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submission.id"], name=op.f("fk_circumstance_submission_id_submission")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_circumstance")),
    )
    op.create_table(
        "grade",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("grade", sa.Integer(), nullable=False),
        sa.Column("graded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("grade >= 1 AND grade <= 7", name=op.f("ck_grade_grade")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_grade_account_id_account")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_grade_submission_id_submission")),
        sa.PrimaryKeyConstraint("submission_id", "account_id", name=op.f("pk_grade")),
    )

    op.create_table(
        "password_link",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_password_link_account_id_account")),
        sa.ForeignKeyConstraint(["created_by"], ["account.id"], name=op.f("fk_password_link_created_by_account")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_password_link")),
    )
    op.create_index(op.f("ix_password_link_account_id"), "password_link", ["account_id"])


def downgrade() -> None:
    op.drop_table("password_link")
    op.drop_index("ix_assignment_labeler", "assignment")
    index_leases(["labeler_id"])
    op.drop_table("grade")
    op.drop_table("circumstance")
    op.drop_table("draft")
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_session_account_id"))

    op.drop_table("session")
    with op.batch_alter_table("invite", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_invite_open", sqlite_where=sa.text("used_at IS NULL"), postgresql_where=sa.text("used_at IS NULL")
        )

    op.drop_table("invite")
    op.drop_table("instruction")
    op.drop_table("gold")
    op.drop_table("export_job")
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_decision_labeler_id"))

    op.drop_table("decision")
    op.drop_table("consent")
    with op.batch_alter_table("adjudication", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_adjudication_task_id"))

    op.drop_table("adjudication")
    op.drop_table("written_prompt")
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_annotation_prompt_id"))

    op.drop_table("annotation")
    op.drop_table("account")
    op.drop_table("setting")
    op.drop_table("login_failure")
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_event_object")

    op.drop_table("audit_event")
