"""What PostgreSQL plans by before it has looked at a table."""

from app.db.statistics import assume_keys

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    assume_keys(("accounts", "merchants", "transactions", "labels", "label_events", "reviews"))


def downgrade() -> None:
    """Statistics are no part of a schema."""
