"""What requests about labels can fail with."""

from app.errors import NotFound, Problem, QuickstudyError, ValidationFailed


class LabelChanged(QuickstudyError):
    """A transaction has another label than the one that whoever decides was shown."""


class LabelNotFound(NotFound):
    """Nothing to do: the transaction has no label."""

    code, title = "label_not_found", "No such label."


class RevisionNotFound(NotFound):
    """Choose a revision from 0 to the account's `revision`."""

    code, title = "revision_not_found", "No such revision of the account."


class WrongAccount(ValidationFailed):
    """Label it in its own account."""

    code, title = "transaction_of_another_account", "The transaction belongs to another account."


class TooManyLabels(Problem):
    """Retry after `Retry-After` seconds, or find out why one key changes so many labels of one
    account.
    """

    status, code = 429, "too_many_labels"
    title = "This key has changed too many labels of this account."
