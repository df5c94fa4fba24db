"""Jobs: comparisons of models and drift, computed beside requests, with their results."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("days", sa.Double, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("slot", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("started_at_us", sa.BigInteger),
        sa.Column("finished_at_us", sa.BigInteger),
        sa.Column("lease_until_us", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_jobs"),
        sa.UniqueConstraint("tenant", "slot", name="uq_jobs_tenant"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status", "created_at_us"])


def downgrade() -> None:
    op.drop_table("jobs")
