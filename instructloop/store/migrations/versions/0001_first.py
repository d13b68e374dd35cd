"""The first schema: prompts, completions, labelers, tasks, assignments and append-only submissions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
APPEND_ONLY = ("submission", "demonstration", "comparison", "rating")


def upgrade() -> None:
    create_tables()
    # A later revision that lets SQLite copy one of these tables (batch mode) must create its triggers again.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION append_only() RETURNS trigger AS $$ BEGIN "
            "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
        )
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            forbid(table, event)


def forbid(table: str, event: str) -> None:
    head = f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} FOR EACH ROW"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"{head} EXECUTE FUNCTION append_only()")
    else:
        op.execute(f"{head} BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END")


def create_tables() -> None:
    op.create_table(
        "labeler",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("cohort", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=200), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("cohort IN ('train', 'heldout', 'screening', 'researcher')", name=op.f("ck_labeler_cohort")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labeler")),
    )
    op.create_table(
        "prompt",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("user_key", sa.Text(), nullable=False),
        sa.Column("split", sa.String(length=16), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(length=32), nullable=True),
        sa.CheckConstraint(
            "category IN ('generation', 'open_qa', 'brainstorming', 'chat', 'rewrite', 'summarization', 'classification', 'other', 'closed_qa', 'extract')",
            name=op.f("ck_prompt_category"),
        ),
        sa.CheckConstraint("kind IN ('plain', 'few_shot', 'user_based')", name=op.f("ck_prompt_kind")),
        sa.CheckConstraint("split IN ('train', 'valid', 'test')", name=op.f("ck_prompt_split")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
    )
    op.create_index(op.f("ix_prompt_split_source"), "prompt", ["split", "source"], unique=False)
    op.create_table(
        "completion",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(length=200), nullable=False),
        sa.Column("policy_run", sa.String(length=200), nullable=False),
        sa.Column("sample_index", sa.Integer(), nullable=False),
        sa.Column("sampling", JSON, nullable=False),
        sa.Column("is_finished", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_completion_prompt_id_prompt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completion")),
    )
    op.create_index(op.f("ix_completion_policy"), "completion", ["policy"], unique=False)
    op.create_index(op.f("ix_completion_prompt_id"), "completion", ["prompt_id"], unique=False)
    op.create_table(
        "task",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task_set", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("prompt_id", sa.String(length=64), nullable=False),
        sa.Column("cohort", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("num_held", sa.Integer(), nullable=False),
        sa.Column("num_submitted", sa.Integer(), nullable=False),
        sa.Column("num_skipped", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("cohort IN ('train', 'heldout', 'screening', 'researcher')", name=op.f("ck_task_cohort")),
        sa.CheckConstraint("kind IN ('demonstrate', 'compare')", name=op.f("ck_task_kind")),
        sa.CheckConstraint("num_held >= 0 AND num_held <= overlap", name=op.f("ck_task_num_held")),
        sa.CheckConstraint("num_skipped >= 0", name=op.f("ck_task_num_skipped")),
        sa.CheckConstraint("num_submitted >= 0 AND num_submitted <= num_held", name=op.f("ck_task_num_submitted")),
        sa.CheckConstraint("overlap >= 1", name=op.f("ck_task_overlap")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_task_prompt_id_prompt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("task_set", "position", name=op.f("uq_task_task_set_position")),
    )
    op.create_index(
        "ix_task_open",
        "task",
        ["task_set", "cohort", sa.literal_column("priority DESC"), "position"],
        unique=False,
        sqlite_where=sa.text("num_held < overlap AND num_skipped < 3"),
        postgresql_where=sa.text("num_held < overlap AND num_skipped < 3"),
    )
    op.create_table(
        "assignment",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("labeler_id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("shown", JSON, nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("skip_reason", sa.Text(), nullable=True),
        sa.CheckConstraint("state != 'leased' OR expires_at IS NOT NULL", name=op.f("ck_assignment_lease")),
        sa.CheckConstraint("state != 'skipped' OR skip_reason IS NOT NULL", name=op.f("ck_assignment_skip_reason")),
        sa.CheckConstraint(
            "state IN ('leased', 'submitted', 'surplus', 'skipped', 'expired')", name=op.f("ck_assignment_state")
        ),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_assignment_labeler_id_labeler")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_assignment_task_id_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
        sa.UniqueConstraint("task_id", "labeler_id", name=op.f("uq_assignment_task_id_labeler_id")),
    )
    op.create_index(
        "ix_assignment_held",
        "assignment",
        ["labeler_id"],
        unique=False,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "ix_assignment_lease",
        "assignment",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_table(
        "task_completion",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id"], ["completion.id"], name=op.f("fk_task_completion_completion_id_completion")
        ),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_completion_task_id_task")),
        sa.PrimaryKeyConstraint("task_id", "position", name=op.f("pk_task_completion")),
        sa.UniqueConstraint("task_id", "completion_id", name=op.f("uq_task_completion_task_id_completion_id")),
    )
    op.create_table(
        "submission",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("assignment_id", sa.String(length=64), nullable=False),
        sa.Column("revision_of", sa.String(length=64), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=False),
        sa.Column("origin", sa.String(length=200), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_submission_seconds")),
        sa.ForeignKeyConstraint(
            ["assignment_id"], ["assignment.id"], name=op.f("fk_submission_assignment_id_assignment")
        ),
        sa.ForeignKeyConstraint(["revision_of"], ["submission.id"], name=op.f("fk_submission_revision_of_submission")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission")),
        sa.UniqueConstraint(
            "assignment_id", "idempotency_key", name=op.f("uq_submission_assignment_id_idempotency_key")
        ),
        sa.UniqueConstraint("revision_of", name=op.f("uq_submission_revision_of")),
    )
    op.create_index(
        "uq_submission_first",
        "submission",
        ["assignment_id"],
        unique=True,
        sqlite_where=sa.text("revision_of IS NULL"),
        postgresql_where=sa.text("revision_of IS NULL"),
    )
    op.create_table(
        "comparison",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("tiers", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submission.id"], name=op.f("fk_comparison_submission_id_submission")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_comparison")),
    )
    op.create_table(
        "demonstration",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submission.id"], name=op.f("fk_demonstration_submission_id_submission")
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_demonstration")),
    )
    op.create_table(
        "rating",
        sa.Column("submission_id", sa.String(length=64), nullable=False),
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("flags", JSON, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("rating >= 1 AND rating <= 7", name=op.f("ck_rating_rating")),
        sa.ForeignKeyConstraint(["completion_id"], ["completion.id"], name=op.f("fk_rating_completion_id_completion")),
        sa.ForeignKeyConstraint(["submission_id"], ["submission.id"], name=op.f("fk_rating_submission_id_submission")),
        sa.PrimaryKeyConstraint("submission_id", "completion_id", name=op.f("pk_rating")),
    )


def downgrade() -> None:
    op.drop_table("rating")
    op.drop_table("demonstration")
    op.drop_table("comparison")
    op.drop_index(
        "uq_submission_first",
        table_name="submission",
        sqlite_where=sa.text("revision_of IS NULL"),
        postgresql_where=sa.text("revision_of IS NULL"),
    )
    op.drop_table("submission")
    op.drop_table("task_completion")
    op.drop_index(
        "ix_assignment_lease",
        table_name="assignment",
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.drop_index(
        "ix_assignment_held",
        table_name="assignment",
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.drop_table("assignment")
    op.drop_index(
        "ix_task_open",
        table_name="task",
        sqlite_where=sa.text("num_held < overlap AND num_skipped < 3"),
        postgresql_where=sa.text("num_held < overlap AND num_skipped < 3"),
    )
    op.drop_table("task")
    op.drop_index(op.f("ix_completion_prompt_id"), table_name="completion")
    op.drop_index(op.f("ix_completion_policy"), table_name="completion")
    op.drop_table("completion")
    op.drop_index(op.f("ix_prompt_split_source"), table_name="prompt")
    op.drop_table("prompt")
    op.drop_table("labeler")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION append_only")
