"""What engines that follow the leader read: where it is, whose routes changed, and reader tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("process", sa.String(), nullable=False, server_default=""))
    op.add_column("leases", sa.Column("address", sa.String(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("home", sa.String()))
    op.create_table(
        "route_changes",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("model", sa.String(), nullable=False),
    )
    op.create_table(
        "reader_tokens",
        sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("token_id", sa.String(), nullable=False, unique=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("reader_tokens")
    op.drop_table("route_changes")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("home")
    with op.batch_alter_table("leases") as leases:
        leases.drop_column("address")
        leases.drop_column("process")
