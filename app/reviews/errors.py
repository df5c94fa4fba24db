"""What requests about reviews can fail with."""

from app.errors import NotFound, Problem


class ReviewNotFound(NotFound):
    code, title = "review_not_found", "This transaction is not up for review."


class ReviewTaken(Problem):
    status, code = 409, "review_taken"
    title = "Somebody else has this review, or it is resolved."
