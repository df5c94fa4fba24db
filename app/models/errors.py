"""What requests about models can fail with."""

from app.errors import NotFound, Problem, Unavailable


class ModelNotFound(NotFound):
    """List the models: none has this name."""

    code, title = "model_not_found", "No such model."


class ReportNotFound(NotFound):
    """Put the `report.html` of its training into the model's folder."""

    code, title = "report_not_found", "This model has no report."


class ModelRefused(Problem):
    """Read `detail`: other features, damaged, or not better."""

    status, code, title = 409, "model_refused", "This model cannot be activated."


class ModelUnavailable(Unavailable):
    """Put the active checkpoint back into its folder, or roll back."""

    code, title = "model_unavailable", "The tenant's active model cannot be loaded."
