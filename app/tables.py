"""The tables, as SQLAlchemy Core knows them. Every row belongs to a tenant.

Times are int64 microseconds since the epoch, UTC. Ids are the caller's own texts.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

LONGEST_ID = 128

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    Column("name", String(LONGEST_ID), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
)

accounts = Table(
    "accounts",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), primary_key=True),
    # Counts every change of the account's labels: the key of its adapter.
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("transactions", BigInteger, nullable=False, server_default="0"),
    Column("fraud_labels", BigInteger, nullable=False, server_default="0"),
    Column("legitimate_labels", BigInteger, nullable=False, server_default="0"),
    Column("state", LargeBinary),
)

merchants = Table(
    "merchants",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("merchant_id", String(LONGEST_ID), primary_key=True),
    Column("state", LargeBinary),
    # Its matured labels; null again when one of them changes, then folded anew.
    Column("label_state", LargeBinary),
)

# No foreign keys to accounts: every writer holds the account's row already,
# and the check would be paid on every score.
transactions = Table(
    "transactions",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), nullable=False),
    Column("merchant_id", String(LONGEST_ID)),
    Column("occurred_at_us", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("content_digest", LargeBinary, nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("features_digest", String(16), nullable=False),
    Column("probability", Double, nullable=False),
    Column("risk_score", Double, nullable=False),
    Column("risk_level", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("used", String(32), nullable=False),
    Column("labels", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("evaluated_at_us", BigInteger, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), nullable=False),
    Column("merchant_id", String(LONGEST_ID)),
    Column("is_fraud", Boolean, nullable=False),
    Column("occurred_at_us", BigInteger, nullable=False),
    Column("labelled_at_us", BigInteger, nullable=False),
    # From here on it is evidence about its merchant, in whose label_state it then is folded.
    Column("matures_at_us", BigInteger, nullable=False),
    Column("folded", Boolean, nullable=False),
    # The newest labels of an account, by class: its support set.
    Index(
        "ix_labels_support",
        "tenant",
        "account_id",
        "is_fraud",
        "occurred_at_us",
        "transaction_id",
    ),
    # The labels of a merchant that are still to fold, or, after one changed, to fold again.
    Index("ix_labels_maturity", "tenant", "merchant_id", "folded", "matures_at_us"),
)
