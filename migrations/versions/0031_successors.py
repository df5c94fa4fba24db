"""Keys say which key they go back to, so that what its caller holds stays theirs.

Keys that were replaced before stand alone: what they hold stays with them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("first_id", sa.String(32)))


def downgrade() -> None:
    op.drop_column("api_keys", "first_id")
