"""The order of the queue, and how long a job may wait in it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("start_before", sa.Double()))


def downgrade() -> None:
    for column in ("start_before", "priority"):
        op.drop_column("jobs", column)
