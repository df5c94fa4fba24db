"""Entities of every kind in the place of merchants, who has used them, and what became of payments.

Merchants stay by name, without their sums: these are made anew from the payments.
"""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index, drop_index
from app.db.statistics import assume_keys

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = "ix_transactions_time"
MATURITY, REMOVALS = "ix_label_entities_maturity", "ix_label_entities_removals"
# The merchant in a payment's content, or nothing where that is no JSON.
MERCHANT = {
    "sqlite": "CASE WHEN json_valid(content) THEN json_extract(content, '$.merchant_id') END",
    "postgresql": "CASE WHEN content LIKE '{%' THEN content::json ->> 'merchant_id' END",
}


def upgrade() -> None:
    build_index(TIME, "transactions", ["tenant", "occurred_at_us", "transaction_id", "account_id"])
    drop_index("ix_labels_maturity", "labels")
    drop_index("ix_label_events_merchant", "label_events")
    drop_index("ix_label_events_removals", "label_events")
    op.create_table(
        "entities",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("entity_id", sa.String(128), nullable=False),
        sa.Column("slot", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("slots", sa.SmallInteger, nullable=False, server_default="1"),
        sa.Column("state", sa.LargeBinary),
        sa.Column("label_state", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant", "kind", "entity_id", "slot", name="pk_entities"),
    )
    op.create_table(
        "links",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("entity_id", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("first_use_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "kind", "entity_id", "account_id", name="pk_links"),
    )
    op.create_index("ix_links_account", "links", ["tenant", "account_id", "kind", "entity_id"])
    _create_label_entities()
    op.execute(
        "INSERT INTO entities (tenant, kind, entity_id)"
        " SELECT tenant, 'merchant', merchant_id FROM merchants"
    )
    assume_keys(("entities", "links", "label_entities"))
    # Last: whoever wants these tables waits from here on.
    op.drop_table("merchants")
    op.drop_column("label_events", "merchant_id")
    op.drop_column("labels", "folded")
    op.drop_column("labels", "merchant_id")
    op.add_column("transactions", sa.Column("status", sa.String(16)))
    op.drop_column("transactions", "merchant_id")


def _create_label_entities() -> None:
    op.create_table(
        "label_entities",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("entity_id", sa.String(128), nullable=False),
        sa.Column("matures_at_us", sa.BigInteger, nullable=False),
        sa.Column("folded", sa.Boolean),
        sa.Column("removed_at_us", sa.BigInteger),
        sa.PrimaryKeyConstraint("tenant", "transaction_id", "kind", name="pk_label_entities"),
    )
    op.create_index(
        MATURITY, "label_entities", ["tenant", "kind", "entity_id", "folded", "matures_at_us"]
    )
    where = sa.text("removed_at_us IS NOT NULL")
    op.create_index(
        REMOVALS,
        "label_entities",
        ["tenant", "kind", "entity_id", "removed_at_us"],
        sqlite_where=where,
        postgresql_where=where,
    )
    op.execute(
        """
        INSERT INTO label_entities (
            tenant, transaction_id, kind, entity_id, matures_at_us, folded, removed_at_us
        )
        SELECT events.tenant, events.transaction_id, 'merchant', min(events.merchant_id),
            max(coalesce(labels.matures_at_us, events.matures_at_us)),
            CASE WHEN count(labels.transaction_id) > 0 THEN false END,
            max(CASE WHEN events.is_fraud IS NULL THEN events.recorded_at_us END)
        FROM label_events AS events LEFT JOIN labels
        ON labels.tenant = events.tenant AND labels.transaction_id = events.transaction_id
        WHERE events.merchant_id IS NOT NULL
        GROUP BY events.tenant, events.transaction_id
        """
    )


def downgrade() -> None:
    op.create_table(
        "merchants",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("merchant_id", sa.String(128), nullable=False),
        sa.Column("state", sa.LargeBinary),
        sa.Column("label_state", sa.LargeBinary),
        sa.PrimaryKeyConstraint("tenant", "merchant_id", name="pk_merchants"),
    )
    op.execute(
        "INSERT INTO merchants (tenant, merchant_id)"
        " SELECT tenant, entity_id FROM entities WHERE kind = 'merchant' AND slot = 0"
    )
    for table in ("labels", "label_events", "transactions"):
        op.add_column(table, sa.Column("merchant_id", sa.String(128)))
    op.add_column(
        "labels", sa.Column("folded", sa.Boolean, nullable=False, server_default=sa.false())
    )
    for table in ("labels", "label_events"):
        op.execute(
            f"""
            UPDATE {table} SET merchant_id = (
                SELECT entity_id FROM label_entities AS named
                WHERE named.tenant = {table}.tenant AND named.kind = 'merchant'
                AND named.transaction_id = {table}.transaction_id
            )
            """
        )
    op.execute(f"UPDATE transactions SET merchant_id = {MERCHANT[op.get_bind().dialect.name]}")
    op.drop_index(TIME, "transactions")
    by_removal = ["tenant", "merchant_id", "recorded_at_us"]
    for name, table, columns in (
        (TIME, "transactions", ["tenant", "occurred_at_us", "transaction_id", "merchant_id"]),
        ("ix_labels_maturity", "labels", ["tenant", "merchant_id", "folded", "matures_at_us"]),
        ("ix_label_events_merchant", "label_events", by_removal),
    ):
        op.create_index(name, table, columns)
    where = sa.text("is_fraud IS NULL")
    op.create_index(
        "ix_label_events_removals",
        "label_events",
        by_removal,
        sqlite_where=where,
        postgresql_where=where,
    )
    with op.batch_alter_table("labels") as labels:
        labels.alter_column("folded", server_default=None)
    op.drop_column("transactions", "status")
    for table in ("label_entities", "links", "entities"):
        op.drop_table(table)
