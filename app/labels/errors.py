"""What requests about labels can fail with."""

from app.errors import NotFound, Problem, ValidationFailed


class LabelNotFound(NotFound):
    code, title = "label_not_found", "No such label."


class RevisionNotFound(NotFound):
    code, title = "revision_not_found", "The account never had this revision."


class WrongAccount(ValidationFailed):
    code, title = "transaction_of_another_account", "The transaction belongs to another account."


class TooManyLabels(Problem):
    status, code = 429, "too_many_labels"
    title = "This key has changed too many labels of this account."
