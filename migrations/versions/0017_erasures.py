"""Certificates of erasures, kept without what was erased; removed labels found by merchant."""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

REMOVALS = "ix_label_events_removals"


def upgrade() -> None:
    build_index(
        REMOVALS,
        "label_events",
        ["tenant", "merchant_id", "recorded_at_us"],
        "is_fraud IS NULL",
    )
    op.create_table(
        "erasures",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("at_us", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Index("ix_erasures_id", "tenant", "id"),
    )


def downgrade() -> None:
    op.drop_table("erasures")
    op.drop_index(REMOVALS, "label_events", if_exists=True)
