"""Webhooks that their receivers disable or pause; what is due is found by webhook."""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMNS = (
    ("disabled_at_us", sa.BigInteger),
    ("disabled_reason", sa.Text),
    ("paused_until_us", sa.BigInteger),
)


def upgrade() -> None:
    build_index("ix_outbox_due", "outbox", ["webhook_id", "next_at_us"], "next_at_us IS NOT NULL")
    for name, kind in COLUMNS:
        op.add_column("webhooks", sa.Column(name, kind))


def downgrade() -> None:
    # In the transaction of the whole downgrade: a build beside it would wait for every long report.
    op.drop_index("ix_outbox_due", "outbox")
    op.create_index("ix_outbox_due", "outbox", ["next_at_us"])
    for name, _ in reversed(COLUMNS):
        op.drop_column("webhooks", name)
