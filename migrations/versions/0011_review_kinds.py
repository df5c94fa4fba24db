"""Reviews of declines and of a sample of approvals beside those to be reviewed; who holds one."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "reviews", sa.Column("kind", sa.String(16), nullable=False, server_default="review")
    )
    op.add_column("reviews", sa.Column("assigned_by", sa.String(32)))


def downgrade() -> None:
    with op.batch_alter_table("reviews") as reviews:
        reviews.drop_column("assigned_by")
        reviews.drop_column("kind")
