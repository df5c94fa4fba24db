"""Events of labels say to which revision a rollback came back.

Rollbacks of before are not told from other changes: what they undid counts as done and done again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("label_events", sa.Column("as_of", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("label_events", "as_of")
