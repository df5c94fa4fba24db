"""What requests about accounts can fail with."""

from app.errors import NotFound


class AccountNotFound(NotFound):
    code, title = "account_not_found", "No such account."
