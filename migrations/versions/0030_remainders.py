"""Links keep what pruned payments were to their entity."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("links", sa.Column("remainder", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("links", "remainder")
