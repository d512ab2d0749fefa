"""The trials of hyperparameter tuning jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trials",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("hyperparameters", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("start_time", sa.String()),
        sa.Column("end_time", sa.String()),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("is_stopped_early", sa.Boolean(), nullable=False),
        sa.Column("error_message", sa.String()),
        sa.UniqueConstraint("job_id", "trial_id"),
    )


def downgrade() -> None:
    op.drop_table("trials")
