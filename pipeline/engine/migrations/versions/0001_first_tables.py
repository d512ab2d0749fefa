"""Jobs, models, versions and operations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(), nullable=False, unique=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("create_time", sa.String(), nullable=False),
        sa.Column("start_time", sa.String()),
        sa.Column("end_time", sa.String()),
        sa.Column("error_message", sa.String()),
        sa.Column("output", sa.JSON()),
    )
    op.create_table(
        "models",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("default_version", sa.String()),
        sa.Column("create_time", sa.String(), nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("create_time", sa.String(), nullable=False),
        sa.Column("error_message", sa.String()),
        sa.UniqueConstraint("model", "name"),
    )
    op.create_index("ix_versions_model", "versions", ["model"])
    op.create_table(
        "operations",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("operation_id", sa.String(), nullable=False, unique=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version", sa.String()),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("error", sa.JSON()),
        sa.Column("response", sa.JSON()),
        sa.Column("create_time", sa.String(), nullable=False),
        sa.Column("end_time", sa.String()),
    )


def downgrade() -> None:
    for table in ("operations", "versions", "models", "jobs"):
        op.drop_table(table)
