"""What requests about transactions can fail with."""

from app.errors import NotFound, Problem


class TransactionNotFound(NotFound):
    """Score it first, or post the label with the whole transaction."""

    code, title = "transaction_not_found", "No such transaction."


def no_transaction(transaction_id: str) -> TransactionNotFound:
    """The refusal of what needs a transaction that is not stored."""
    return TransactionNotFound(f"There is no transaction {transaction_id!r}.")


class TransactionConflict(Problem):
    """Use another id: a transaction with other content has this one."""

    status, code = 409, "transaction_conflict"
    title = "A transaction with this id and other content is stored."
