"""Scopes, rotation and last use of keys; who changed what, when."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        # Keys of before could do everything.
        keys.add_column(
            sa.Column(
                "scopes", sa.String(64), nullable=False, server_default="score label read admin"
            )
        )
        keys.add_column(sa.Column("expires_at_us", sa.BigInteger))
        keys.add_column(sa.Column("last_used_at_us", sa.BigInteger))
    op.create_table(
        "audit_log",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("account_id", sa.String(128)),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("tenant", "at_us", "id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_subject", "audit_log", ["tenant", "subject", "at_us"])
    op.create_index("ix_audit_log_account", "audit_log", ["tenant", "account_id"])


def downgrade() -> None:
    op.drop_table("audit_log")
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_column("last_used_at_us")
        keys.drop_column("expires_at_us")
        keys.drop_column("scopes")
