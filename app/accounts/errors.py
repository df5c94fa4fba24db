"""What requests about accounts can fail with."""

from app.errors import NotFound


class AccountNotFound(NotFound):
    """Score a transaction of the account, or import its history."""

    code, title = "account_not_found", "No such account."
