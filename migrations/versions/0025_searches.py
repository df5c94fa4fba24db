"""Payments are found by label in the order of time, and searches for them are saved."""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index, drop_index

revision = "0025"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_labels_time", "labels", ["tenant", "is_fraud", "occurred_at_us", "transaction_id"]
    )
    op.create_table(
        "searches",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("owner", sa.String(128), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("account_id", sa.String(128)),
        sa.Column("entity_kind", sa.String(32)),
        sa.Column("entity_id", sa.String(128)),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("saved_at_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    drop_index("ix_labels_time", "labels")
    op.drop_table("searches")
