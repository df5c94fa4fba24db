"""Indexes for lists: what is rare is found however far back it lies, and by any filter in order."""

from alembic import op

from app.db.indexing import build_index, drop_index

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ABOVE_LOW, HAS_LABELS = "risk_level <> 'low'", "fraud_labels + legitimate_labels > 0"
ASSIGNED = "assignee IS NOT NULL"
PLACE, LOGGED, QUEUE = ["occurred_at_us", "transaction_id"], ["at_us", "id"], ["status", "kind"]
RISK, AGE = ["risk_score", "transaction_id"], ["opened_at_us", "transaction_id"]
NEW = (
    ("transactions", "level", ["risk_level", *PLACE], ABOVE_LOW),
    ("transactions", "account_level", ["account_id", "risk_level", *PLACE], ABOVE_LOW),
    ("accounts", "labelled", ["account_id"], HAS_LABELS),
    ("audit_log", "account_time", ["account_id", *LOGGED], None),
    ("audit_log", "actor", ["actor", *LOGGED], None),
    ("audit_log", "action", ["action", *LOGGED], None),
    ("reviews", "account_risk", ["account_id", *QUEUE, *RISK], None),
    ("reviews", "account_age", ["account_id", *QUEUE, *AGE], None),
    ("reviews", "assignee_risk", ["assignee", *QUEUE, *RISK], ASSIGNED),
    ("reviews", "assignee_age", ["assignee", *QUEUE, *AGE], ASSIGNED),
    ("api_keys", "tenant", ["created_at_us", "id"], None),
)
ORDERS = (("risk", RISK), ("age", AGE))


def upgrade() -> None:
    for table, name, columns, where in NEW:
        build_index(f"ix_{table}_{name}", table, ["tenant", *columns], where)
    for name, order in ORDERS:
        build_index(f"ix_reviews_{name}", "reviews", ["tenant", "kind", "status", *order])
    build_index("ix_audit_log_subject", "audit_log", ["tenant", "subject", *LOGGED])
    drop_index("ix_reviews_account", "reviews")


def downgrade() -> None:
    for table, name, _, _ in reversed(NEW):
        op.drop_index(f"ix_{table}_{name}", table, if_exists=True)
    build_index("ix_audit_log_subject", "audit_log", ["tenant", "subject", "at_us"])
    for name, order in ORDERS:
        build_index(f"ix_reviews_{name}", "reviews", ["tenant", "status", *order])
    build_index("ix_reviews_account", "reviews", ["tenant", "account_id", "status"])
