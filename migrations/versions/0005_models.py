"""Which checkpoint decides for a tenant, and which is tried out beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_changes",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(128)),
        sa.Column("digest", sa.String(64)),
        sa.PrimaryKeyConstraint("tenant", "role", "at_us", name="pk_model_changes"),
    )


def downgrade() -> None:
    op.drop_table("model_changes")
