"""What requests about transactions can fail with."""

from app.errors import NotFound, Problem, Unavailable


class TransactionNotFound(NotFound):
    """Score it first, or post the label with the whole transaction."""

    code, title = "transaction_not_found", "No such transaction."


def no_transaction(transaction_id: str, pruned_before: str | None = None) -> TransactionNotFound:
    """The refusal of what needs a transaction that is not stored.

    Where there was one, it may have been pruned with those of before a time.
    """
    message = f"There is no transaction {transaction_id!r}."
    if pruned_before is not None:
        message += f" Those of before {pruned_before} that had no label have been pruned."
    return TransactionNotFound(message)


class TransactionConflict(Problem):
    """Use another id: a transaction with other content has this one."""

    status, code = 409, "transaction_conflict"
    title = "A transaction with this id and other content is stored."


class AccountLocked(Unavailable):
    """Retry after `Retry-After` seconds: other accounts are scored meanwhile."""

    code, title = "account_locked", "The account, or an entity of the payment, is locked."

    def __init__(self) -> None:
        super().__init__(
            "Another session has locked this account, or an entity of the payment, for more than "
            "a second: nothing was stored."
        )
