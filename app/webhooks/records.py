"""The rows of webhooks, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class Webhook(NamedTuple):
    """A row of `webhooks`."""

    tenant: str
    id: str
    url: str
    events: str
    secret: str
    old_secret: str | None
    old_until_us: int | None
    created_at_us: int
    # Nothing is delivered to it from then on, and why; or not before then.
    disabled_at_us: int | None = None
    disabled_reason: str | None = None
    paused_until_us: int | None = None


class Message(NamedTuple):
    """A row of `outbox`; `next_at_us` is None where it was given up."""

    id: str
    tenant: str
    webhook_id: str
    event: str
    account_id: str | None
    created_at_us: int
    body: str
    attempts: int = 0
    next_at_us: int | None = None
    last_error: str | None = None
