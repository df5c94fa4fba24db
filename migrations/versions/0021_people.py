"""People with roles and passwords, notes on accounts, reviews that sleep, two scopes more."""

import sqlalchemy as sa
from alembic import op

from app.db.indexing import build_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

SNOOZED = "snoozed_until_us IS NOT NULL"
ORDERS = ("risk", "risk_score"), ("age", "opened_at_us")
# What a scope was good for before, and the one that it is good for now.
MOVED = ("label", "decide"), ("admin", "manage")


def upgrade() -> None:
    # First, and so that it can be run again: what is before an index that is built is committed.
    is_postgres = op.get_bind().dialect.name == "postgresql"
    column = sa.Column("snoozed_until_us", sa.BigInteger)
    op.add_column("reviews", column, if_not_exists=is_postgres or None)
    for name, order in ORDERS:
        columns = ["tenant", "kind", "status", order, "transaction_id"]
        build_index(f"ix_reviews_snoozed_{name}", "reviews", columns, SNOOZED)
    op.create_table(
        "people",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("email", sa.String(128)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.Text),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("disabled_at_us", sa.BigInteger),
        sa.UniqueConstraint("tenant", "name", name="uq_people_tenant_name"),
        sa.UniqueConstraint("tenant", "email", name="uq_people_tenant_email"),
    )
    op.create_table(
        "setup_links",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("person_id", sa.String(32)),
        sa.Column("ends_at_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sign_in_attempts",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("account_id", sa.String(128), primary_key=True),
        sa.Column("at_us", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("transaction_id", sa.String(128)),
        sa.Column("author", sa.String(128)),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    for old, new in MOVED:
        op.execute(
            f"UPDATE api_keys SET scopes = replace(scopes, '{old}', '{old} {new}') "
            f"WHERE scopes LIKE '%{old}%'"
        )


def downgrade() -> None:
    for _, new in MOVED:
        op.execute(f"UPDATE api_keys SET scopes = replace(scopes, ' {new}', '')")
    # Of a person, who would be taken for a key.
    op.execute("DELETE FROM sessions WHERE key_id LIKE 'person:%'")
    for name, _ in ORDERS:
        op.drop_index(f"ix_reviews_snoozed_{name}", "reviews", if_exists=True)
    with op.batch_alter_table("reviews") as reviews:
        reviews.drop_column("snoozed_until_us")
    for table in ("notes", "sign_in_attempts", "setup_links", "people"):
        op.drop_table(table)
