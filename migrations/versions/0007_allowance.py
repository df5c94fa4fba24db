"""The changes that a key made to an account, newest first, from the index alone: the allowance."""

from app.db.indexing import build_index

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME, TABLE = "ix_audit_log_account", "audit_log"


def upgrade() -> None:
    build_index(NAME, TABLE, ["tenant", "account_id", "actor", "at_us", "action"])


def downgrade() -> None:
    build_index(NAME, TABLE, ["tenant", "account_id"])
