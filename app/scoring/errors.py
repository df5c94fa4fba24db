"""What requests about transactions can fail with."""

from app.errors import NotFound, Problem


class TransactionNotFound(NotFound):
    """Score it first, or post the label with the whole transaction."""

    code, title = "transaction_not_found", "No such transaction."


class TransactionConflict(Problem):
    """Use another id: a transaction with other content has this one."""

    status, code = 409, "transaction_conflict"
    title = "A transaction with this id and other content is stored."
