"""When a version was last used; labels and cancelling of operations."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("last_use_time", sa.String()))
    op.add_column("operations", sa.Column("labels", sa.JSON()))
    op.add_column(
        "operations",
        sa.Column("is_cancellation_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    op.drop_column("operations", "is_cancellation_requested")
    op.drop_column("operations", "labels")
    op.drop_column("versions", "last_use_time")
