"""Labels that are removed while others have yet to forget them."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgettings",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("account_id", sa.String(128), nullable=False),
        sa.Column("is_erasure", sa.Boolean, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("transactions", sa.Text, nullable=False),
        sa.Column("labels", sa.BigInteger, nullable=False),
        sa.Column("corrected", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("forgettings")
