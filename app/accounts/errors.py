"""What requests about accounts can fail with."""

from app.errors import NotFound


class AccountNotFound(NotFound):
    """Score a transaction of the account, or import its history."""

    code, title = "account_not_found", "No such account."


def no_account(account_id: str) -> AccountNotFound:
    """The refusal of what needs an account that is not stored."""
    return AccountNotFound(f"There is no account {account_id!r}.")
