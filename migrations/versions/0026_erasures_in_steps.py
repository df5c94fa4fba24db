"""Erasures count the rows that are gone so far."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

COLUMNS = "erased_transactions", "erased_label_events", "erased_reviews"


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column(
            "forgettings", sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
        )


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("forgettings", name)
