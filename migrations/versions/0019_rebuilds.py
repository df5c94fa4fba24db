"""States computed anew from payments, and what scores were made of before, for replays."""

import sqlalchemy as sa
from alembic import op

from app.db.statistics import assume_keys

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "past_features",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("transaction_id", sa.String(128), primary_key=True),
        sa.Column("features_digest", sa.String(16), primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "rebuilds",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("features_digest", sa.String(16), primary_key=True),
        sa.Column("payments", sa.BigInteger, nullable=False),
        sa.Column("is_cleared", sa.Boolean, nullable=False),
        sa.Column("replayed", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger),
        sa.Column("last_id", sa.String(128)),
        sa.Column("is_done", sa.Boolean, nullable=False),
    )
    assume_keys(("past_features",))
    # Last: whoever wants this table waits from here on.
    op.add_column("transactions", sa.Column("rebuilt_at_us", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("transactions", "rebuilt_at_us")
    op.drop_table("rebuilds")
    op.drop_table("past_features")
