"""The lease of the engine that uses the database."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    leases = op.create_table(
        "leases",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
    )
    op.bulk_insert(leases, [{"name": "engine", "holder": "", "expires": 0.0}])


def downgrade() -> None:
    op.drop_table("leases")
