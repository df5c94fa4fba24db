"""Events of labels say which of them are corrections.

Corrections of before are not told from changes: whoever reads them leaves out what says the same
label again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "label_events",
        sa.Column("is_correction", sa.Boolean, nullable=False, server_default=sa.false()),
    )


def downgrade() -> None:
    op.drop_column("label_events", "is_correction")
