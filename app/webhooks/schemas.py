"""Webhooks, and what has not reached them yet."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from app.http.fields import URL, Body

Event = Literal["transaction.flagged", "label.changed", "adaptation.done", "model.activated"]
WEBHOOK: JsonDict = {
    "id": "5f0c9d2e1a7b",
    "url": "https://example.com/quickstudy",
    "events": ["transaction.flagged"],
    "created_at": "2026-02-01T00:00:00.000000Z",
    "disabled_at": None,
    "disabled_reason": None,
}


class PostedWebhook(Body):
    """Where to send which events. The host must have public addresses only."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/quickstudy", "events": ["transaction.flagged"]}
            ]
        }
    )

    url: Annotated[
        str, StringConstraints(min_length=1, max_length=URL.longest, pattern=URL.pattern)
    ]
    events: Annotated[list[Event], Field(min_length=1, max_length=4)]


class WebhookState(BaseModel):
    """A webhook without its secret. Nothing is delivered to it while it is disabled."""

    model_config = ConfigDict(json_schema_extra={"examples": [WEBHOOK]})

    id: str
    url: str
    events: list[Event]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    disabled_at: str | None
    disabled_reason: str | None


class NewWebhook(WebhookState):
    """With the secret that messages are signed with, which is shown once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**WEBHOOK, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}]
        }
    )

    secret: str


class WebhookList(BaseModel):
    """A tenant's webhooks, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [WEBHOOK]}]})

    data: list[WebhookState]


class WaitingMessage(BaseModel):
    """A message that has not arrived.

    Without a next attempt it was given up, or waits for its webhook to be enabled.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "msg_0a1b2c3d4e5f60718293a4b5",
                    "event": "transaction.flagged",
                    "created_at": "2026-02-01T00:00:00.000000Z",
                    "attempts": 2,
                    "next_attempt_at": "2026-02-01T00:00:36.000000Z",
                    "last_error": "answered 500",
                    "body": {"type": "transaction.flagged", "data": {"transaction_id": "t-1001"}},
                }
            ]
        }
    )

    id: str
    event: Event
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    attempts: int
    next_attempt_at: str | None
    last_error: str | None
    body: dict[str, Any]


class WaitingMessages(BaseModel):
    """The oldest 100 first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": []}]})

    data: list[WaitingMessage]
