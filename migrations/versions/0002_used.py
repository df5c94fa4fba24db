"""Room for `insufficient_labels`, beside `adapted` and `base`, in what scored a transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("transactions") as transactions:
        transactions.alter_column("used", existing_type=sa.String(16), type_=sa.String(32))


def downgrade() -> None:
    op.execute("UPDATE transactions SET used = 'base' WHERE used = 'insufficient_labels'")
    with op.batch_alter_table("transactions") as transactions:
        transactions.alter_column("used", existing_type=sa.String(32), type_=sa.String(16))
