"""What requests about webhooks can fail with."""

from app.errors import NotFound, Problem


class WebhookNotFound(NotFound):
    """List the webhooks: none has this id."""

    code, title = "webhook_not_found", "No such webhook."


class TooManyWebhooks(Problem):
    """Remove a webhook first: a tenant has at most 10."""

    status, code, title = 409, "too_many_webhooks", "The limit of webhooks is reached."
