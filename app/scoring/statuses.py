"""What became of stored transactions, and how they then count in the sums of their account."""

from collections.abc import Mapping

import numpy as np
from sqlalchemy import String, bindparam, update
from sqlalchemy import cast as sql_cast

from app.accounts import store as account_store
from app.db.connection import Connection
from app.db.database import refuse_while_rebuilding
from app.db.errors import Raced
from app.db.schema import transactions
from app.db.statements import IsWanted
from app.learner.columns import columns_of
from app.learner.states import States
from app.learner.transaction import Status, transaction_of
from app.scoring import store as transaction_store
from app.scoring.pipeline import IN_PLACE, Pipeline, in_a_thread_if
from app.scoring.records import Scored

_STATUS = (
    update(transactions)
    .where(transactions.c.tenant == bindparam("of_tenant"), IsWanted(transactions.c.transaction_id))
    .values(status=sql_cast(bindparam("new_status"), String))
)


async def change_status(
    connection: Connection,
    pipeline: Pipeline,
    tenant: str,
    account_id: str,
    statuses: Mapping[str, Status],
) -> dict[str, str | None]:
    """Give transactions of an account these statuses; those that they had.

    What is not stored, or of another account, is left out. The account's sums then have each
    transaction as if it had come with its status, at its own time, to the last bits; what
    `FeatureSet.recount` says is exact. Scores and features of earlier transactions stay as they
    were, and entities count attempts, whatever became of them. The account is locked.
    """
    await refuse_while_rebuilding(connection, tenant)
    if not await _of_account(connection, tenant, account_id, statuses):
        return {}
    accounts = await account_store.lock_accounts(connection, tenant, [account_id])
    account = accounts[account_id]
    # As they are now that nobody else can change them.
    found = await _of_account(connection, tenant, account_id, statuses)
    if not found:
        raise Raced
    changed = {key: row for key, row in found.items() if row.status != statuses[key]}
    for status in {statuses[key] for key in changed}:
        keys = [key for key in changed if statuses[key] == status]
        await connection.change(_STATUS, tenant, keys, new_status=status)
    state = await in_a_thread_if(
        len(changed) > IN_PLACE, lambda: _recounted(pipeline, account.state, changed, statuses)
    )
    if state != account.state:
        await account_store.save_accounts(connection, [account._replace(state=state)])
    return {key: row.status for key, row in found.items()}


async def _of_account(
    connection: Connection, tenant: str, account_id: str, statuses: Mapping[str, Status]
) -> dict[str, Scored]:
    found = await transaction_store.scored(connection, tenant, statuses)
    return {key: row for key, row in found.items() if row.account_id == account_id}


def _recounted(
    pipeline: Pipeline,
    state: bytes | None,
    rows: Mapping[str, Scored],
    statuses: Mapping[str, Status],
) -> bytes | None:
    """The state of an account once its transactions have these statuses."""
    moved, was, now = [], [], []
    for key, row in rows.items():
        transaction = transaction_of(row.content)
        before = row.standing(transaction.type)
        after = row._replace(status=statuses[key]).standing(transaction.type)
        if before != after:
            moved.append((row, transaction))
            was.append(before)
            now.append(after)
    if not moved:
        return state
    features = pipeline.features
    columns, _ = columns_of(
        features.spec, [transaction for _, transaction in moved], features.rates
    )
    columns.standing_N[:] = was
    accounts = States.from_bytes([state], features.account_sums)
    features_NF = pipeline.matrix(row.features for row, _ in moved)
    features.recount(columns, accounts, np.array(now, np.int64), features_NF)
    [recounted] = accounts.to_bytes()
    return recounted
