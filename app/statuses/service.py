"""What became of transactions: stored, counted by their accounts, and written down."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.db.database import Database
from app.errors import Problem
from app.learner.transaction import Status
from app.ops.turns import Turns
from app.scoring.by_account import ACCOUNTS_AT_ONCE, each_by_account
from app.scoring.errors import no_transaction
from app.scoring.pipeline import Pipeline
from app.scoring.statuses import change_status


@dataclass(frozen=True, slots=True)
class StatusSet:
    """The status of a transaction, and whether it was another before."""

    account_id: str
    status: Status
    changed: bool


class Statuses:
    """Sets statuses, those of an account in one database transaction."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline
        self._turns = Turns(ACCOUNTS_AT_ONCE)

    async def put(self, tenant: str, transaction_id: str, status: Status) -> StatusSet:
        """Set the status of a stored transaction. Raises TransactionNotFound."""
        [answer] = (await self.put_each(tenant, {transaction_id: status})).values()
        if isinstance(answer, Problem):
            raise answer
        return answer

    async def put_each(
        self, tenant: str, statuses: Mapping[str, Status]
    ) -> dict[str, StatusSet | Problem]:
        """An outcome for each transaction; those of an account have one commit."""
        set_some = partial(self._set, tenant)
        return await each_by_account(self._database, tenant, statuses, set_some, self._turns)

    async def _set(
        self, tenant: str, account_id: str, statuses: Mapping[str, Status]
    ) -> dict[str, StatusSet | Problem]:
        async def set_each(connection: Connection) -> dict[str, StatusSet | Problem]:
            before = await change_status(connection, self._pipeline, tenant, account_id, statuses)
            changed = {key for key in before if before[key] != statuses[key]}
            await audit_store.save_entries(
                connection,
                [
                    entry(
                        tenant,
                        "status.set",
                        key,
                        {"status": before[key]} if before[key] else None,
                        {"status": statuses[key]},
                        account_id,
                    )
                    for key in sorted(changed)
                ],
            )
            return {
                key: StatusSet(account_id, status, key in changed)
                if key in before
                # Erased meanwhile.
                else no_transaction(key)
                for key, status in statuses.items()
            }

        return await self._database.run(set_each)
