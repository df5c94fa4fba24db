"""Thresholds: the floor of a budget, and a reset to the model's own."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("thresholds", sa.Column("floor", sa.Double))
    op.add_column(
        "thresholds",
        sa.Column("is_reset", sa.Boolean, nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    # What was reset is kept as thresholds: those that the model had at that time.
    with op.batch_alter_table("thresholds") as thresholds:
        thresholds.drop_column("is_reset")
        thresholds.drop_column("floor")
