"""What requests about models can fail with."""

from app.errors import NotFound, Problem, Unavailable


class ModelNotFound(NotFound):
    code, title = "model_not_found", "No such model."


class ModelRefused(Problem):
    status, code, title = 409, "model_refused", "This model cannot take that place."


class ModelUnavailable(Unavailable):
    code, title = "model_unavailable", "The tenant's active model cannot be loaded."
