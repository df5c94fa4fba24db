"""Checkpoints that may have scored are kept, so that their scores replay after an upgrade."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("description", sa.LargeBinary, nullable=False),
        sa.Column("weights", sa.LargeBinary, nullable=False),
        sa.Column("kept_at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_checkpoints"),
    )


def downgrade() -> None:
    op.drop_table("checkpoints")
