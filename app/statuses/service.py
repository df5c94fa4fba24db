"""What became of transactions: stored, counted by their accounts, and written down."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.database import Database
from app.errors import Problem
from app.learner.transaction import Status
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionNotFound
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
        async with self._database.glance() as connection:
            found = await transaction_store.scored(connection, tenant, statuses)
        by_account: dict[str, dict[str, Status]] = defaultdict(dict)
        answers: dict[str, StatusSet | Problem] = {}
        for key, status in statuses.items():
            if key in found:
                by_account[found[key].account_id][key] = status
            else:
                answers[key] = TransactionNotFound(f"There is no transaction {key!r}.")
        for account_id, group in sorted(by_account.items()):
            try:
                answers |= await self._set(tenant, account_id, group)
            except Problem as problem:
                # Those that were stored before are stored: each gets its own outcome.
                answers |= dict.fromkeys(group, problem)
        return answers

    async def _set(
        self, tenant: str, account_id: str, statuses: Mapping[str, Status]
    ) -> dict[str, StatusSet | Problem]:
        async def work(connection: AsyncConnection) -> dict[str, StatusSet | Problem]:
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
                else TransactionNotFound(f"There is no transaction {key!r}.")
                for key, status in statuses.items()
            }

        return await self._database.run(work)
