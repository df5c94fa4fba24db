"""Who labelled and why, every change of a label, reviews, thresholds by tenant, and reasons."""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, columns in (
        ("time", ["tenant", "occurred_at_us", "transaction_id"]),
        ("account", ["tenant", "account_id", "occurred_at_us", "transaction_id"]),
        ("merchant", ["tenant", "merchant_id", "occurred_at_us"]),
    ):
        build_index(f"ix_transactions_{name}", "transactions", columns)
    with op.batch_alter_table("labels") as labels:
        labels.add_column(
            sa.Column("source", sa.String(32), nullable=False, server_default="analyst")
        )
        labels.add_column(sa.Column("analyst", sa.String(128)))
        labels.add_column(sa.Column("note", sa.Text))
        labels.add_column(
            sa.Column("recorded_at_us", sa.BigInteger, nullable=False, server_default="0")
        )
        labels.add_column(sa.Column("features", sa.LargeBinary))
    op.execute("UPDATE labels SET recorded_at_us = labelled_at_us")
    _create_label_events()
    _create_reviews()
    op.create_table(
        "thresholds",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("effective_at_us", sa.BigInteger, nullable=False),
        sa.Column("recorded_at_us", sa.BigInteger, nullable=False),
        sa.Column("review", sa.Double, nullable=False),
        sa.Column("decline", sa.Double, nullable=False),
        sa.Column("reviews_per_day", sa.Double),
        sa.Column("chosen_on", sa.BigInteger),
        sa.Column("chosen_on_days", sa.Double),
        sa.Column("note", sa.Text),
        sa.PrimaryKeyConstraint(
            "tenant", "effective_at_us", "recorded_at_us", name="pk_thresholds"
        ),
    )
    # Last: whoever wants these tables waits from here on.
    with op.batch_alter_table("accounts") as accounts:
        accounts.add_column(
            sa.Column("created_at_us", sa.BigInteger, nullable=False, server_default="0")
        )
    with op.batch_alter_table("transactions") as transactions:
        transactions.add_column(sa.Column("review_from", sa.Double))
        transactions.add_column(sa.Column("decline_from", sa.Double))
        transactions.add_column(sa.Column("reasons", sa.Text))


def _create_label_events() -> None:
    op.create_table(
        "label_events",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("merchant_id", sa.String(128)),
        sa.Column("is_fraud", sa.Boolean),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("labelled_at_us", sa.BigInteger, nullable=False),
        sa.Column("matures_at_us", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("analyst", sa.String(128)),
        sa.Column("note", sa.Text),
        sa.Column("recorded_at_us", sa.BigInteger, nullable=False),
        sa.Column("features", sa.LargeBinary),
        sa.PrimaryKeyConstraint(
            "tenant", "account_id", "revision", "transaction_id", name="pk_label_events"
        ),
    )
    op.create_index(
        "ix_label_events_transaction", "label_events", ["tenant", "transaction_id", "revision"]
    )
    op.create_index(
        "ix_label_events_merchant", "label_events", ["tenant", "merchant_id", "recorded_at_us"]
    )
    # How the labels came about was not kept: the present revision is the oldest that is known.
    op.execute(
        """
        INSERT INTO label_events (
            tenant, account_id, revision, transaction_id, merchant_id, is_fraud, occurred_at_us,
            labelled_at_us, matures_at_us, source, recorded_at_us
        )
        SELECT labels.tenant, labels.account_id, accounts.revision, transaction_id, merchant_id,
            is_fraud, occurred_at_us, labelled_at_us, matures_at_us, source, recorded_at_us
        FROM labels JOIN accounts
        ON accounts.tenant = labels.tenant AND accounts.account_id = labels.account_id
        """
    )


def _create_reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("opened_at_us", sa.BigInteger, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("risk_score", sa.Double, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("assignee", sa.String(128)),
        sa.Column("assigned_at_us", sa.BigInteger),
        sa.Column("resolved_at_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant", "transaction_id", name="pk_reviews"),
    )
    op.create_index(
        "ix_reviews_risk", "reviews", ["tenant", "status", "risk_score", "transaction_id"]
    )
    op.create_index(
        "ix_reviews_age", "reviews", ["tenant", "status", "opened_at_us", "transaction_id"]
    )
    op.create_index("ix_reviews_account", "reviews", ["tenant", "account_id", "status"])


def downgrade() -> None:
    for table in ("thresholds", "reviews", "label_events"):
        op.drop_table(table)
    with op.batch_alter_table("accounts") as accounts:
        accounts.drop_column("created_at_us")
    with op.batch_alter_table("labels") as labels:
        for column in ("features", "recorded_at_us", "note", "analyst", "source"):
            labels.drop_column(column)
    for name in ("merchant", "account", "time"):
        op.drop_index(f"ix_transactions_{name}", "transactions")
    with op.batch_alter_table("transactions") as transactions:
        for column in ("reasons", "decline_from", "review_from"):
            transactions.drop_column(column)
