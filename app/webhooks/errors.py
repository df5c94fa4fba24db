"""What requests about webhooks can fail with."""

from app.errors import NotFound, Problem


class WebhookNotFound(NotFound):
    code, title = "webhook_not_found", "No such webhook."


class TooManyWebhooks(Problem):
    status, code, title = 409, "too_many_webhooks", "The tenant has as many webhooks as it may."
