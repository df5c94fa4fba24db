"""Whose merchants transactions are from the index by time: one of its own is a page a payment."""

from app.db.indexing import build_index, drop_index

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE, TIME, MERCHANT = "transactions", "ix_transactions_time", "ix_transactions_merchant"


def upgrade() -> None:
    build_index(TIME, TABLE, ["tenant", "occurred_at_us", "transaction_id", "merchant_id"])
    drop_index(MERCHANT, TABLE)


def downgrade() -> None:
    build_index(TIME, TABLE, ["tenant", "occurred_at_us", "transaction_id"])
    build_index(MERCHANT, TABLE, ["tenant", "merchant_id", "occurred_at_us"])
