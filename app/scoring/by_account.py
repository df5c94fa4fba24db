"""What is stored of transactions of any accounts, account by account."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import TypeVar

from app.db.database import Database
from app.errors import Problem
from app.ops.turns import Turns
from app.scoring import store as transaction_store
from app.scoring.errors import no_transaction

# Accounts of requests about many, which are worked on at once: one computes while one waits for the
# database.
ACCOUNTS_AT_ONCE = 2

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def each_by_account(
    database: Database,
    tenant: str,
    items: Mapping[str, Item],
    store: Callable[[str, dict[str, Item]], Awaitable[Mapping[str, Answer | Problem]]],
    turns: Turns,
) -> dict[str, Answer | Problem]:
    """An outcome for each transaction's item, by the transaction's id.

    `store` is called once for each account, in the order of the items, with those that are of it;
    a problem that it raises is the outcome of them all. Of several accounts each has a turn of its
    own, so that many such requests of a tenant are not all under way. A transaction that is not
    stored has TransactionNotFound.
    """
    async with database.glance() as connection:
        found = await transaction_store.scored(connection, tenant, items)
    by_account: dict[str, dict[str, Item]] = defaultdict(dict)
    answers: dict[str, Answer | Problem] = {}
    for key, item in items.items():
        if key in found:
            by_account[found[key].account_id][key] = item
        else:
            answers[key] = no_transaction(key)
    for account_id, group in by_account.items():
        try:
            async with turns.one() if len(by_account) > 1 else nullcontext():
                answers |= await store(account_id, group)
        except Problem as problem:
            # What other accounts have is stored by now: each gets its own outcome.
            answers |= dict.fromkeys(group, problem)
    return answers
