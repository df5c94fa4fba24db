"""Whose merchants transactions are from the index by time: one of its own is a page a payment."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE, TIME, MERCHANT = "transactions", "ix_transactions_time", "ix_transactions_merchant"


def upgrade() -> None:
    op.drop_index(MERCHANT, TABLE)
    op.drop_index(TIME, TABLE)
    op.create_index(TIME, TABLE, ["tenant", "occurred_at_us", "transaction_id", "merchant_id"])


def downgrade() -> None:
    op.drop_index(TIME, TABLE)
    op.create_index(TIME, TABLE, ["tenant", "occurred_at_us", "transaction_id"])
    op.create_index(MERCHANT, TABLE, ["tenant", "merchant_id", "occurred_at_us"])
