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
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from app.learner.validity import ID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

LONGEST_ID, LONGEST_KIND = ID.longest, 32
# The conditions of partial indexes, which serve queries with just these words alone.
WAS_REMOVED = "removed_at_us IS NOT NULL"
HAS_LABELS, ABOVE_LOW = "fraud_labels + legitimate_labels > 0", "risk_level <> 'low'"
ASSIGNED = "assignee IS NOT NULL"
SNOOZED = "snoozed_until_us IS NOT NULL"


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    Column("name", String(LONGEST_ID), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    # What it may do, separated by spaces.
    Column("scopes", String(64), nullable=False, server_default="score label read admin"),
    Column("created_at_us", BigInteger, nullable=False),
    # Where it has been replaced: until when it is still good.
    Column("expires_at_us", BigInteger),
    Column("last_used_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    # The first of the keys that replaced one another, whose claims it has; null: it is the first.
    Column("first_id", String(32)),
    Index("ix_api_keys_tenant", "tenant", "created_at_us", "id"),
)

# Who works at the console. Names are what their verdicts bear, so nobody ever gets another's.
people = Table(
    "people",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    Column("name", String(LONGEST_ID), nullable=False),
    Column("email", String(LONGEST_ID)),
    Column("role", String(16), nullable=False),
    # A slow hash; null until they have chosen one.
    Column("password", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("disabled_at_us", BigInteger),
    UniqueConstraint("tenant", "name"),
    UniqueConstraint("tenant", "email"),
)

# By which people choose a password, once.
setup_links = Table(
    "setup_links",
    metadata,
    # Of the secret in the link.
    Column("digest", String(64), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    # Null: whoever has the link becomes the first person.
    Column("person_id", String(32)),
    Column("ends_at_us", BigInteger, nullable=False),
)

# How often somebody has lately tried to sign in, by the digest of the name, whether or not there is
# such a person: who guesses learns nothing by being stopped.
sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("until_us", BigInteger, nullable=False),
)

# Who has signed in to the console: neither a key nor what their browser has is here.
sessions = Table(
    "sessions",
    metadata,
    # Of the secret in the browser's cookie.
    Column("digest", String(64), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    # By which they have signed in, or `person:` and their id.
    Column("key_id", String(32), nullable=False),
    # As they named themselves, where it was by a key.
    Column("person", String(LONGEST_ID), nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    # It ends at the earlier of the two; the first moves on with use.
    Column("idle_until_us", BigInteger, nullable=False),
    Column("ends_at_us", BigInteger, nullable=False),
)

# Only ever added to, until an account is erased, whose entries go with it.
audit_log = Table(
    "audit_log",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("id", String(32), primary_key=True),
    # The id of a key, `person:` and a person's id, or that it was the command line.
    Column("actor", String(LONGEST_ID), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(LONGEST_ID), nullable=False),
    Column("account_id", String(LONGEST_ID)),
    Column("before", Text),
    Column("after", Text),
    Index("ix_audit_log_subject", "tenant", "subject", "at_us", "id"),
    # Whole in the index: how many changes a key has made to an account of late.
    Index("ix_audit_log_account", "tenant", "account_id", "actor", "at_us", "action"),
    # The log is only ever written for a change: it can afford an index a filter.
    Index("ix_audit_log_account_time", "tenant", "account_id", "at_us", "id"),
    Index("ix_audit_log_actor", "tenant", "actor", "at_us", "id"),
    Index("ix_audit_log_action", "tenant", "action", "at_us", "id"),
)

# Certificates, without what was erased: by `content` and the account's id the digest is made.
erasures = Table(
    "erasures",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("id", String(32), primary_key=True),
    # As in the audit log.
    Column("actor", String(LONGEST_ID), nullable=False),
    # JSON.
    Column("content", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Index("ix_erasures_id", "tenant", "id"),
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
    # Tells an account from an erased one of the same name, whose copies banks may still hold.
    Column("created_at_us", BigInteger, nullable=False, server_default="0"),
    _partial("ix_accounts_labelled", "tenant", "account_id", where=HAS_LABELS),
)

# Whatever payments name beside their account: merchants, devices, addresses, cards, …. Slots of an
# entity have sums of their own, which add up: payments at once do not wait for each other.
entities = Table(
    "entities",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("kind", String(LONGEST_KIND), primary_key=True),
    Column("entity_id", String(LONGEST_ID), primary_key=True),
    # From 0 on. Whoever locks all of them has the entity alone.
    Column("slot", SmallInteger, primary_key=True, server_default="0"),
    # Of slot 0: how many there are. Of others: more than 1.
    Column("slots", SmallInteger, nullable=False, server_default="1"),
    Column("state", LargeBinary),
    # Of slot 0: its matured labels; null again when one of them changes, then folded anew.
    Column("label_state", LargeBinary),
)

# Which account has used which entity, a row for each pair: written at the first use, and again
# only where an older payment comes late. The account's lock is its lock.
links = Table(
    "links",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("kind", String(LONGEST_KIND), primary_key=True),
    Column("entity_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), primary_key=True),
    Column("first_use_us", BigInteger, nullable=False),
    # What the account's payments with the entity were to it that have been pruned.
    Column("remainder", LargeBinary),
    Index("ix_links_account", "tenant", "account_id", "kind", "entity_id"),
)

# No foreign keys to accounts: every writer holds the account's row already,
# and the check would be paid on every score.
transactions = Table(
    "transactions",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), nullable=False),
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
    # The thresholds that decided; null in rows of before they were kept.
    Column("review_from", Double),
    Column("decline_from", Double),
    # JSON, where something raised the risk above low.
    Column("reasons", Text),
    # What became of it; null where the outcome above is all that is known.
    Column("status", String(16)),
    # When its features were computed anew, and are no longer those that it was scored with.
    Column("rebuilt_at_us", BigInteger),
    # What comes now goes to the end of it, one page for a whole batch. So it also tells whose they
    # are: with its links an entity's payments are found, and an index by entity would be a page to
    # write for each entity of every payment.
    Index("ix_transactions_time", "tenant", "occurred_at_us", "transaction_id", "account_id"),
    Index("ix_transactions_account", "tenant", "account_id", "occurred_at_us", "transaction_id"),
    # Of the few that are above low risk, so that lists find them however far back they lie.
    _partial(
        "ix_transactions_level",
        *("tenant", "risk_level", "occurred_at_us", "transaction_id"),
        where=ABOVE_LOW,
    ),
    _partial(
        "ix_transactions_account_level",
        *("tenant", "account_id", "risk_level", "occurred_at_us", "transaction_id"),
        where=ABOVE_LOW,
    ),
)

# What scores and copies were made of before features were computed anew, for replays: at revision 0
# those of a transaction, else those that its label's event of this revision had.
past_features = Table(
    "past_features",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("features_digest", String(16), primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("features", LargeBinary, nullable=False),
)

# Tenants whose states are being computed anew, until those of all tenants are.
rebuilds = Table(
    "rebuilds",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    # Of the features that the states are for: of all tenants the same.
    Column("features_digest", String(16), primary_key=True),
    Column("payments", BigInteger, nullable=False),
    # Whether nothing is left of the states of before.
    Column("is_cleared", Boolean, nullable=False),
    # How many payments are replayed, and the last one.
    Column("replayed", BigInteger, nullable=False),
    Column("last_us", BigInteger),
    Column("last_id", String(LONGEST_ID)),
    Column("is_done", Boolean, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), nullable=False),
    Column("is_fraud", Boolean, nullable=False),
    Column("occurred_at_us", BigInteger, nullable=False),
    Column("labelled_at_us", BigInteger, nullable=False),
    # From here on it is evidence about its entities, in whose label_state it then is folded.
    Column("matures_at_us", BigInteger, nullable=False),
    Column("source", String(32), nullable=False, server_default="analyst"),
    Column("analyst", String(LONGEST_ID)),
    Column("note", Text),
    # By our clock; labelled_at_us is by the caller's.
    Column("recorded_at_us", BigInteger, nullable=False, server_default="0"),
    # Null, or the features that the transaction would have had without a label since forgotten.
    Column("features", LargeBinary),
    # The newest labels of an account, by class: its support set.
    Index(
        "ix_labels_support",
        "tenant",
        "account_id",
        "is_fraud",
        "occurred_at_us",
        "transaction_id",
    ),
    # Payments by label, in the order of their list.
    Index("ix_labels_time", "tenant", "is_fraud", "occurred_at_us", "transaction_id"),
)

# The entities that labelled payments name, a row for each; they stay with the label's events.
label_entities = Table(
    "label_entities",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("kind", String(LONGEST_KIND), primary_key=True),
    Column("entity_id", String(LONGEST_ID), nullable=False),
    # The label's.
    Column("matures_at_us", BigInteger, nullable=False),
    # Whether the label is in the entity's label_state; null while there is none.
    Column("folded", Boolean),
    # When a label was last removed, if ever.
    Column("removed_at_us", BigInteger),
    # The labels of an entity that are still to fold, or, after one changed, to fold again.
    Index("ix_label_entities_maturity", "tenant", "kind", "entity_id", "folded", "matures_at_us"),
    # Few: whoever labels a payment asks whether any came since the payment was evaluated.
    _partial(
        "ix_label_entities_removals",
        *("tenant", "kind", "entity_id", "removed_at_us"),
        where=WAS_REMOVED,
    ),
)

# Every change of a label, for ever: what an account had learned at any revision. A change of
# `features` is one, too. `is_fraud` is null where the label was removed.
label_events = Table(
    "label_events",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("is_fraud", Boolean),
    Column("occurred_at_us", BigInteger, nullable=False),
    Column("labelled_at_us", BigInteger, nullable=False),
    Column("matures_at_us", BigInteger, nullable=False),
    Column("source", String(32), nullable=False),
    Column("analyst", String(LONGEST_ID)),
    Column("note", Text),
    Column("recorded_at_us", BigInteger, nullable=False),
    Column("features", LargeBinary),
    # Those of before there was this column may be corrections, too.
    Column("is_correction", Boolean, nullable=False, server_default=false()),
    # The revision that a rollback came back to. None for those of before there was this column.
    Column("as_of", BigInteger),
    Index("ix_label_events_transaction", "tenant", "transaction_id", "revision"),
)

# Labels that are removed, or brought back, while others have yet to be corrected for them: a row
# for each removal, rollback or erasure until it has ended. Whoever finds one that nobody works on
# goes on with it.
forgettings = Table(
    "forgettings",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    # Of an erasure, its certificate's.
    Column("id", String(32), primary_key=True),
    # When it was last worked on.
    Column("at_us", BigInteger, nullable=False),
    # Whose labels they were.
    Column("account_id", String(LONGEST_ID), nullable=False),
    # Whether the account is to be erased once all others have forgotten it.
    Column("is_erasure", Boolean, nullable=False),
    # As in the audit log.
    Column("actor", String(LONGEST_ID), nullable=False),
    # The payments whose labels they were, as JSON.
    Column("transactions", Text, nullable=False),
    # How many labels were removed, and how many of others corrected so far.
    Column("labels", BigInteger, nullable=False),
    Column("corrected", BigInteger, nullable=False),
    # Of an erasure: how many rows of the account are gone so far.
    Column("erased_transactions", BigInteger, nullable=False, server_default="0"),
    Column("erased_label_events", BigInteger, nullable=False, server_default="0"),
    Column("erased_reviews", BigInteger, nullable=False, server_default="0"),
)

# Transactions that a person is to look at. Risk is as the account's newest copy sees it.
REVIEW_ORDERS = ("risk", "risk_score"), ("age", "opened_at_us")
reviews = Table(
    "reviews",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("transaction_id", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), nullable=False),
    Column("occurred_at_us", BigInteger, nullable=False),
    Column("opened_at_us", BigInteger, nullable=False),
    Column("probability", Double, nullable=False),
    Column("risk_score", Double, nullable=False),
    Column("status", String(16), nullable=False),
    # Of the account's labels when its risk was last looked at.
    Column("revision", BigInteger, nullable=False),
    Column("assignee", String(LONGEST_ID)),
    Column("assigned_at_us", BigInteger),
    Column("resolved_at_us", BigInteger),
    # Why it is here: held up for a review, declined, or one of the approvals drawn by chance.
    Column("kind", String(16), nullable=False, server_default="review"),
    # The key that the assignee came with, or the first of those that it replaced; or the person.
    Column("assigned_by", String(32)),
    # Until when nobody is to be bothered with it.
    Column("snoozed_until_us", BigInteger),
    Index("ix_reviews_risk", "tenant", "kind", "status", "risk_score", "transaction_id"),
    Index("ix_reviews_age", "tenant", "kind", "status", "opened_at_us", "transaction_id"),
    *(
        Index(
            f"ix_reviews_account_{name}",
            *("tenant", "account_id", "status", "kind", order, "transaction_id"),
        )
        for name, order in REVIEW_ORDERS
    ),
    *(
        _partial(
            f"ix_reviews_assignee_{name}",
            *("tenant", "assignee", "status", "kind", order, "transaction_id"),
            where=ASSIGNED,
        )
        for name, order in REVIEW_ORDERS
    ),
    *(
        _partial(
            f"ix_reviews_snoozed_{name}",
            *("tenant", "kind", "status", order, "transaction_id"),
            where=SNOOZED,
        )
        for name, order in REVIEW_ORDERS
    ),
)

# What people write down about accounts. Only ever added to, until the account is erased.
notes = Table(
    "notes",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("account_id", String(LONGEST_ID), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("id", String(32), primary_key=True),
    # Where it is about one payment of it.
    Column("transaction_id", String(LONGEST_ID)),
    Column("author", String(LONGEST_ID)),
    # As in the audit log.
    Column("actor", String(LONGEST_ID), nullable=False),
    Column("text", Text, nullable=False),
)

# Searches for payments that people, or keys, keep for themselves.
searches = Table(
    "searches",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    # The person, as the audit log has them, or the first of the keys that replaced one another.
    Column("owner", String(LONGEST_ID), primary_key=True),
    Column("name", String(LONGEST_ID), primary_key=True),
    # What it looks for, by which it is erased.
    Column("account_id", String(LONGEST_ID)),
    Column("entity_kind", String(LONGEST_KIND)),
    Column("entity_id", String(LONGEST_ID)),
    # JSON: all of its filters.
    Column("content", Text, nullable=False),
    Column("saved_at_us", BigInteger, nullable=False),
)

# Which checkpoint decides for a tenant, or is in shadow: the newest row of a role counts. Without a
# name it is the deployment's, or none in shadow.
model_changes = Table(
    "model_changes",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("name", String(LONGEST_ID)),
    Column("digest", String(64)),
)

# The files of every checkpoint that may have scored, of no tenant: scores are replayed by it after
# its folder holds another one.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("digest", String(64), primary_key=True),
    # As scores name it.
    Column("model", Text, nullable=False),
    Column("description", LargeBinary, nullable=False),
    Column("weights", LargeBinary, nullable=False),
    Column("kept_at_us", BigInteger, nullable=False),
)

# Where a tenant receives events, and with which secret messages are signed.
webhooks = Table(
    "webhooks",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    # The one before, which signs too for a while.
    Column("old_secret", String(64)),
    Column("old_until_us", BigInteger),
    Column("created_at_us", BigInteger, nullable=False),
    # Nothing is delivered to it from then on, and why.
    Column("disabled_at_us", BigInteger),
    Column("disabled_reason", Text),
    # Its receiver wants to be left alone until then.
    Column("paused_until_us", BigInteger),
)

# Messages that have not arrived yet; those without a next time were given up.
outbox = Table(
    "outbox",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(LONGEST_ID), nullable=False),
    Column("webhook_id", String(32), nullable=False),
    Column("event", String(32), nullable=False),
    Column("account_id", String(LONGEST_ID)),
    Column("created_at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_us", BigInteger),
    Column("last_error", Text),
    Index(
        "ix_outbox_due",
        "webhook_id",
        "next_at_us",
        sqlite_where=text("next_at_us IS NOT NULL"),
        postgresql_where=text("next_at_us IS NOT NULL"),
    ),
    Index("ix_outbox_webhook", "tenant", "webhook_id", "created_at_us"),
)

# What is computed beside requests, and what came of it.
jobs = Table(
    "jobs",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("model", String(LONGEST_ID), nullable=False),
    Column("days", Double, nullable=False),
    Column("status", String(16), nullable=False),
    # Until it has ended: one of the few that its tenant has.
    Column("slot", Integer),
    Column("attempts", Integer, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("started_at_us", BigInteger),
    Column("finished_at_us", BigInteger),
    # While it runs: from then on another process may take it over.
    Column("lease_until_us", BigInteger),
    # JSON: what is answered, or the problem that kept it from being computed.
    Column("result", Text),
    Column("error", Text),
    UniqueConstraint("tenant", "slot", name="uq_jobs_tenant"),
    Index("ix_jobs_status", "status", "created_at_us"),
)

# A tenant's thresholds of probability, each from its time until the next one's.
thresholds = Table(
    "thresholds",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("effective_at_us", BigInteger, primary_key=True),
    Column("recorded_at_us", BigInteger, primary_key=True),
    Column("review", Double, nullable=False),
    Column("decline", Double, nullable=False),
    # What they were chosen for, and how many transactions of how many days they were chosen on.
    Column("reviews_per_day", Double),
    Column("chosen_on", BigInteger),
    Column("chosen_on_days", Double),
    Column("note", Text),
    # Below which a budget could not choose.
    Column("floor", Double),
    # From here on the active model's own decide, whatever they then are.
    Column("is_reset", Boolean, nullable=False, server_default=false()),
)

# Figures about a tenant's payments, kept until they are counted anew: sums, and nobody's ids.
figures = Table(
    "figures",
    metadata,
    Column("tenant", String(LONGEST_ID), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("counted_at_us", BigInteger, nullable=False),
    # How long counting took, by which it is said how long the figures are kept.
    Column("took_us", BigInteger, nullable=False),
    # JSON.
    Column("content", Text, nullable=False),
)

# What readiness stores to see whether anything can be stored: a row for each process.
write_probes = Table(
    "write_probes",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("written_at_us", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
