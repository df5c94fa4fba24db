"""Scored transactions."""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Select,
    Text,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from app.audit import store as audit_store
from app.db import pages
from app.db.connection import Connection
from app.db.pages import Part, between, page, read_page
from app.db.schema import ABOVE_LOW, labels, links, past_features, transactions
from app.db.statements import IsWanted, by_key, columns
from app.entities.store import USERS
from app.learner.decisions import LEVELS, Level, Outcome
from app.learner.transaction import ENTITY_FIELDS, MOST_ITEMS
from app.scoring.errors import no_transaction
from app.scoring.records import Arrived, Past, Scored

# Of the index by time: so many take a few milliseconds, for which others wait.
STEP_ENTRIES = 5 * MOST_ITEMS

# Of so many the payments are looked for account by account.
MOST_ACCOUNTS = 20
LabelFilter = Literal["fraud", "legitimate", "none"]
IS_FRAUD: dict[LabelFilter | None, bool] = {"fraud": True, "legitimate": False}

# In `past_features`: of a transaction itself, and not of a label's event.
AS_SCORED = 0
# Later than any time.
NEWEST_US = 2**63 - 1

_KEY = transactions.c.occurred_at_us, transactions.c.transaction_id
# When features were computed: `Scored.computed_at_us`.
COMPUTED_AT_US = func.coalesce(transactions.c.rebuilt_at_us, transactions.c.evaluated_at_us)


def _newest(kind: Any, account_id: ColumnElement[str], *more: ColumnElement[bool]) -> Select[Any]:
    """Of an account's transactions, the newest first."""
    return (
        select(*columns(transactions, kind))
        .where(
            transactions.c.tenant == bindparam("of_tenant"),
            transactions.c.account_id == account_id,
            *more,
        )
        .order_by(*(column.desc() for column in _KEY))
        .limit(bindparam("most"))
    )


def _past(account_id: ColumnElement[str], before_us: ColumnElement[int]) -> Select[Any]:
    return _newest(
        Past,
        account_id,
        transactions.c.occurred_at_us < before_us,
        transactions.c.evaluated_at_us <= bindparam("known_us"),
    )


_RECENT = _newest(Scored, bindparam("of_account"))
_PAST = _past(bindparam("of_account"), bindparam("before_us"))
# In an order, and with a column, that no index has: SQLite would pass through all payments that
# there are, in the index by time.
_NEWEST_FIRST = (
    select(transactions.c.transaction_id, transactions.c.evaluated_at_us)
    .where(transactions.c.tenant == bindparam("of_tenant"), IsWanted(transactions.c.transaction_id))
    .order_by((transactions.c.occurred_at_us + 0).desc(), transactions.c.transaction_id.desc())
)
_SOME_USERS = USERS.limit(MOST_ACCOUNTS + 1)
_LINKED = (
    select(literal(1))
    .where(links.c.tenant == bindparam("of_tenant"), links.c.kind == bindparam("of_kind"))
    .limit(1)
)
_ACCOUNTS = (
    func.unnest(
        bindparam("of_accounts", type_=ARRAY(Text)),
        bindparam("befores_us", type_=ARRAY(BigInteger)),
    )
    .table_valued(column("account_id", Text), column("before_us", BigInteger), with_ordinality="n")
    .render_derived()
)
_PAST_OF_EACH = _past(_ACCOUNTS.c.account_id, _ACCOUNTS.c.before_us).lateral()
# Of all of them at once: the way to PostgreSQL takes longer than the answer.
_PASTS = (
    select(_ACCOUNTS.c.n, *(_PAST_OF_EACH.c[name] for name in Past._fields))
    .join(_PAST_OF_EACH, true())
    .order_by(_ACCOUNTS.c.n, *(_PAST_OF_EACH.c[column.name].desc() for column in _KEY))
)


async def scored(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, Scored]:
    """The stored ones among these transactions."""
    return await connection.by_transaction(transactions, Scored, tenant, transaction_ids)


async def require_scored(connection: Connection, tenant: str, transaction_id: str) -> Scored:
    """A stored one; raises TransactionNotFound where there is none."""
    found = await scored(connection, tenant, [transaction_id])
    if transaction_id not in found:
        raise no_transaction(transaction_id, await audit_store.pruned_before(connection, tenant))
    return found[transaction_id]


async def features_as_scored(connection: Connection, row: Scored, digest: str) -> bytes | None:
    """What a transaction was scored with, of a definition; None where that is not stored."""
    if row.rebuilt_at_us is None:
        return row.features if row.features_digest == digest else None
    query = select(past_features.c.features).where(
        past_features.c.tenant == row.tenant,
        past_features.c.transaction_id == row.transaction_id,
        past_features.c.features_digest == digest,
        past_features.c.revision == AS_SCORED,
    )
    found: bytes | None = (await connection.execute(query)).scalar_one_or_none()
    return found


async def any_features_digest(connection: Connection) -> str | None:
    """The definition of the stored features, of which a database holds one; None when empty."""
    query = select(transactions.c.features_digest).limit(1)
    return (await connection.execute(query)).scalar_one_or_none()


async def save_scored(connection: Connection, rows: Sequence[Scored]) -> None:
    """Insert new transactions; the driver raises IntegrityError where another came first."""
    # In key order, for the same reason as locks.
    await connection.write_rows(transactions, sorted(rows, key=lambda row: row.transaction_id))


def float32_row(features_F: np.ndarray[Any, Any]) -> bytes:
    """A feature vector as it is stored: float32, little endian."""
    return features_F.astype("<f4", copy=False).tobytes()


def float32_rows(features_NF: np.ndarray[Any, Any]) -> list[bytes]:
    """The same of each row."""
    stored, size = float32_row(features_NF), 4 * features_NF.shape[1]
    return [stored[first : first + size] for first in range(0, len(stored), size)]


class Filters(NamedTuple):
    """Which transactions of a tenant a list has; None is any."""

    account_id: str | None = None
    occurred_from_us: int | None = None
    occurred_to_us: int | None = None
    outcome: Outcome | None = None
    risk_level: Level | None = None
    # A kind, and an id as it is stored.
    entity: tuple[str, str] | None = None
    # In whatever currency they were posted.
    amount_from: float | None = None
    amount_to: float | None = None
    label: LabelFilter | None = None


async def listed(
    connection: Connection,
    tenant: str,
    filters: Filters,
    after: tuple[Any, ...] | None,
    limit: int,
) -> Part[Scored]:
    """Transactions, the newest first.

    No index has payments by entity. Where few accounts have used it, theirs are looked at, and
    otherwise those of all accounts, `MOST_READ` for a page in any case.
    """
    if filters.entity is None or filters.account_id is not None:
        return await _listed(connection, tenant, filters, after, limit)
    kind, id_ = filters.entity
    accounts = await connection.fetch(tuple[str], _SOME_USERS, tenant, of_kind=kind, of_id=id_)
    # Of kinds that the model does not know nobody's use is noted.
    is_noted = bool(accounts) or await connection.fetch(tuple[int], _LINKED, tenant, of_kind=kind)
    if len(accounts) > MOST_ACCOUNTS or not is_noted:
        return await _listed(connection, tenant, filters, after, limit)
    parts = [
        await _listed(
            connection,
            tenant,
            filters._replace(account_id=account_id),
            after,
            limit,
            len(accounts),
        )
        for (account_id,) in accounts
    ]
    found = {row.transaction_id: row for part in parts for row in part.rows}
    ends = {part.until[1]: part.until for part in parts if part.until is not None}
    rows = []
    # Up to the newest end: of what comes after it, one of the lists has not said yet.
    for id_ in await newest_first(connection, tenant, {*found, *ends}):
        if id_ in found:
            rows.append(found[id_])
        if id_ in ends:
            return Part(rows[:limit], ends[id_])
    return Part(rows[:limit], None)


async def _listed(
    connection: Connection,
    tenant: str,
    filters: Filters,
    after: tuple[Any, ...] | None,
    limit: int,
    lists: int = 1,
) -> Part[Scored]:
    """One of so many lists that are read for a page."""
    outcome, level, label = filters.outcome, filters.risk_level, filters.label
    table = transactions.c
    query = select(*columns(transactions, Scored))
    served: list[Any] = [table.tenant == tenant]
    if filters.account_id is not None:
        served.append(table.account_id == filters.account_id)
    others = _others(filters, connection.dialect.name)
    if outcome is not None or level is not None:
        possible = LEVELS[outcome] if outcome is not None else chain(*LEVELS.values())
        levels = [each for each in possible if level in (None, each)]
        if not levels:
            return Part([], None)
        is_of_level = table.risk_level.in_(levels)
        if "low" in levels or label in IS_FRAUD:
            others.append(is_of_level)
        else:
            served += [is_of_level, text(ABOVE_LOW)]
    # As keys: no id is before the empty one.
    first = _first_of(filters.occurred_to_us)
    if first is not None:
        after = first if after is None else min(after, first)
    if label in IS_FRAUD:
        return await _labelled(connection, tenant, filters, others, after, limit, lists)
    return await read_page(
        connection,
        Scored._make,
        query.where(*served, *others),
        _KEY,
        after,
        limit,
        descending=True,
        walked=select(*_KEY).where(*served) if others else None,
        last=_first_of(filters.occurred_from_us),
        lists=lists,
    )


async def _labelled(
    connection: Connection,
    tenant: str,
    filters: Filters,
    others: Sequence[ColumnElement[bool]],
    after: tuple[Any, ...] | None,
    limit: int,
    lists: int,
) -> Part[Scored]:
    """The same of one label, by the index of labels in the order of their payments' times."""
    order = labels.c.occurred_at_us, labels.c.transaction_id
    query = select(*order).where(
        labels.c.tenant == tenant, labels.c.is_fraud == IS_FRAUD[filters.label]
    )
    if filters.account_id is not None:
        query = query.where(labels.c.account_id == filters.account_id)
    looked_at = max(pages.MOST_READ // lists, 1) if others else limit
    last = _first_of(filters.occurred_from_us)
    keys = (
        await read_page(
            connection, tuple, query, order, after, looked_at, descending=True, last=last
        )
    ).rows
    ids = [id_ for _, id_ in keys]
    if others and ids:
        # Neither ordered nor joined: PostgreSQL would look for them among all there are.
        matching = select(transactions.c.transaction_id).where(
            transactions.c.tenant == tenant, IsWanted(transactions.c.transaction_id), *others
        )
        found = await connection.read(tuple[str], matching, {"wanted": ids})
        matched = {id_ for (id_,) in found}
        ids = [id_ for id_ in ids if id_ in matched]
    rows = await scored(connection, tenant, ids[:limit])
    until = keys[-1] if others and len(keys) == looked_at else None
    return Part([rows[id_] for id_ in ids[:limit] if id_ in rows], until)


def _others(filters: Filters, dialect: str) -> list[ColumnElement[bool]]:
    """The conditions that no index serves."""
    found: list[ColumnElement[bool]] = []
    amount = cast(_posted(dialect, "amount"), Double)
    if filters.amount_from is not None:
        found.append(amount >= filters.amount_from)
    if filters.amount_to is not None:
        found.append(amount <= filters.amount_to)
    if filters.entity is not None:
        kind, id_ = filters.entity
        field = ENTITY_FIELDS.get(kind)
        path = (field,) if field is not None else ("entities", kind)
        found.append(_posted(dialect, *path) == id_)
    if filters.label == "none":
        found.append(~exists().where(by_key(labels, transactions, "transaction_id")))
    return found


def _posted(dialect: str, *path: str) -> ColumnElement[str]:
    """A text that was posted; null where there is none."""
    content = transactions.c.content
    if dialect == "sqlite":
        return func.json_extract(content, ".".join(("$", *path)))
    found: ColumnElement[str] = cast(content, JSON)[path].astext
    return found


def _first_of(time_us: int | None) -> tuple[int, str] | None:
    """The key before those of all transactions of a time."""
    return None if time_us is None else (time_us, "")


async def recent(connection: Connection, tenant: str, account_id: str, limit: int) -> list[Scored]:
    """An account's newest transactions, newest first."""
    return await connection.fetch(Scored._make, _RECENT, tenant, of_account=account_id, most=limit)


async def newest_first(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> list[str]:
    """These transactions' ids in the order in which an account's are served."""
    query = _NEWEST_FIRST
    rows = await connection.fetch(tuple[Any, ...], query, tenant, transaction_ids, are_many=True)
    return [key for key, _ in rows]


async def payments_of(
    connection: Connection, tenant: str, account_ids: Iterable[str] | None, without: str
) -> AsyncIterator[list[Arrived]]:
    """What these accounts, or all, have paid, `without` another account's, a thousand at most.

    In the order of time. The whole index of the tenant's times is read, 2 s for ten million, in
    steps. A step may find nothing.
    """
    order = [transactions.c.occurred_at_us, transactions.c.transaction_id]
    of_tenant = transactions.c.tenant == tenant
    step = select(*order).where(of_tenant)
    ids = select(transactions.c.transaction_id).where(
        of_tenant, transactions.c.account_id != without
    )
    parameters: dict[str, Any] = {}
    if account_ids is not None:
        ids = ids.where(IsWanted(transactions.c.account_id))
        parameters["wanted"] = sorted(account_ids)
    after: tuple[Any, ...] | None = None
    while True:
        last = page(step, order, after, 1).offset(STEP_ENTRIES - 1)
        until = next(iter(await connection.read(tuple[Any, ...], last)), None)
        # The index has the ids, so that only rows of these accounts are read.
        chosen = select(transactions.c.content, COMPUTED_AT_US).where(
            of_tenant, transactions.c.transaction_id.in_(ids.where(*between(order, after, until)))
        )
        found = await connection.read(Arrived._make, chosen.order_by(*order), parameters)
        for first in range(0, max(len(found), 1), MOST_ITEMS):
            yield found[first : first + MOST_ITEMS]
        if until is None:
            return
        after = tuple(until)


async def pasts_of(
    connection: Connection,
    tenant: str,
    moments: Sequence[tuple[str, int]],
    most: int,
    known_us: int = NEWEST_US,
) -> list[list[Past]]:
    """What each of these accounts paid before a time of its own, newest first.

    Of what had been scored by `known_us`: payments may come late.
    """
    if connection.dialect.name == "sqlite":
        return [
            await connection.fetch(
                Past._make,
                _PAST,
                tenant,
                of_account=account_id,
                before_us=before_us,
                known_us=known_us,
                most=most,
            )
            for account_id, before_us in moments
        ]
    parameters: dict[str, Any] = {
        "of_accounts": [account_id for account_id, _ in moments],
        "befores_us": [before_us for _, before_us in moments],
        "known_us": known_us,
        "most": most,
    }
    found: list[list[Past]] = [[] for _ in moments]
    for n, *past in await connection.fetch(tuple[Any, ...], _PASTS, tenant, **parameters):
        found[n - 1].append(Past(*past))
    return found
