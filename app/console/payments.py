"""A payment as pages show it: its facts, why it has its score, its account's newest ones."""

from typing import NamedTuple

from app.console import texts
from app.console.charts import Mark, Waterfall, strip, waterfall
from app.db.database import Database
from app.explanations.replay import Replay
from app.http.paging import PageParams
from app.learner.transaction import ENTITY_FIELDS, STANDARD_FIELDS
from app.scoring.routes import list_transactions, read_transaction
from app.scoring.schemas import StoredTransaction

# Payments on the strip of an account.
RECENT = 40
# The currency stands beside the amount.
SHOWN_FIELDS = (*(name for name in STANDARD_FIELDS if name != "currency"), "status")


class Fact(NamedTuple):
    """Something that was posted: what it is, and its value; `kind` where it is an entity's id."""

    name: str
    value: str
    kind: str | None = None


class ShownPayment(NamedTuple):
    """A payment, and what a page says about it."""

    payment: StoredTransaction
    facts: list[Fact]
    why: Waterfall
    past: int
    recent: list[StoredTransaction]
    marks: list[Mark]


async def shown_payment(
    database: Database, replay: Replay, tenant: str, transaction_id: str
) -> ShownPayment:
    """All of a payment but what it takes long to know. Raises TransactionNotFound."""
    payment = await read_transaction(transaction_id, database, tenant)
    explained = await replay.explain(tenant, transaction_id)
    row = explained.transaction
    thresholds = (
        (row.review_from, row.decline_from)
        if row.review_from is not None and row.decline_from is not None
        else None
    )
    why = waterfall(
        explained.baseline,
        explained.log_odds,
        explained.probability,
        explained.reasons,
        thresholds,
        (texts.USUAL, texts.OTHER_REASONS, texts.THIS_PAYMENT),
    )
    recent = await recent_of(database, tenant, payment.account_id)
    return ShownPayment(
        payment, facts_of(payment), why, explained.past, recent, strip(recent, transaction_id)
    )


async def recent_of(database: Database, tenant: str, account_id: str) -> list[StoredTransaction]:
    """An account's newest payments, the newest first."""
    newest = PageParams(RECENT, None)
    return (await list_transactions(database, tenant, newest, account_id=account_id)).data


def facts_of(payment: StoredTransaction) -> list[Fact]:
    """What was posted, but for its ids, time and amount; what is missing is left out."""
    named = {kind: getattr(payment, field) for kind, field in ENTITY_FIELDS.items()}
    entities = named | payment.entities
    fields = {name: getattr(payment, name) for name in SHOWN_FIELDS}
    if payment.type == "payment":
        del fields["type"]
    return [
        *(Fact(texts.ENTITIES.get(kind, kind), id_, kind) for kind, id_ in entities.items() if id_),
        *(Fact(_name(name), value) for name, value in fields.items() if value),
        *(Fact(_plain(name), _text(value)) for name, value in payment.attributes.items()),
    ]


def _name(field: str) -> str:
    return texts.FIELDS.get(field) or _plain(field)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return texts.YES if value else texts.NO
    return f"{value:g}" if isinstance(value, float) else str(value)
