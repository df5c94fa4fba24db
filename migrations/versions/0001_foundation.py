"""API keys, accounts, merchants, transactions and labels."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_table(
        "accounts",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("transactions", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fraud_labels", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("legitimate_labels", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("state", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant", "account_id", name="pk_accounts"),
    )
    op.create_table(
        "merchants",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("merchant_id", sa.String(128), nullable=False),
        sa.Column("state", sa.LargeBinary),
        sa.Column("label_state", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant", "merchant_id", name="pk_merchants"),
    )
    op.create_table(
        "transactions",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("merchant_id", sa.String(128)),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("content_digest", sa.LargeBinary, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("features_digest", sa.String(16), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("risk_score", sa.Double, nullable=False),
        sa.Column("risk_level", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("used", sa.String(16), nullable=False),
        sa.Column("labels", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("evaluated_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "transaction_id", name="pk_transactions"),
    )
    op.create_table(
        "labels",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("merchant_id", sa.String(128)),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("labelled_at_us", sa.BigInteger, nullable=False),
        sa.Column("matures_at_us", sa.BigInteger, nullable=False),
        sa.Column("folded", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "transaction_id", name="pk_labels"),
    )
    op.create_index(
        "ix_labels_support",
        "labels",
        ["tenant", "account_id", "is_fraud", "occurred_at_us", "transaction_id"],
    )
    op.create_index(
        "ix_labels_maturity",
        "labels",
        ["tenant", "merchant_id", "folded", "matures_at_us"],
    )


def downgrade() -> None:
    for table in ("labels", "transactions", "merchants", "accounts", "api_keys"):
        op.drop_table(table)
