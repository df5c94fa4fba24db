"""What requests about reviews can fail with."""

from app.errors import NotFound, Problem


class ReviewNotFound(NotFound):
    """Nothing to do: the transaction was approved, and is not in the sample."""

    code, title = "review_not_found", "No review of this transaction."


class ReviewTaken(Problem):
    """Read `detail`: it says who has it and until when, or that it is resolved."""

    status, code = 409, "review_taken"
    title = "The review is assigned to another key, or resolved."


class QueueEmpty(NotFound):
    """Retry later: every open review is assigned to somebody."""

    code, title = "queue_empty", "No unassigned review is open."
