"""What requests about transactions can fail with."""

from app.errors import NotFound, Problem


class TransactionNotFound(NotFound):
    code, title = "transaction_not_found", "No such transaction."


class TransactionConflict(Problem):
    status, code = 409, "transaction_conflict"
    title = "This transaction id is taken by a transaction with other content."
