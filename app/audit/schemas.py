"""The audit log as it is read."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.audit.entries import Action


class LogEntry(BaseModel):
    """A change: who made it, when, of what, and what was there before and after."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "at": "2026-02-03T09:30:02.250000Z",
                    "actor": "3c81463f5052",
                    "action": "label.set",
                    "subject": "t-1001",
                    "account_id": "a-17",
                    "before": None,
                    "after": {
                        "label": "fraud",
                        "source": "analyst",
                        "analyst": "mia",
                        "note": "Cardholder called.",
                    },
                }
            ]
        }
    )

    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    actor: Annotated[
        str, Field(description="The id of a key; `person:` and a person's id; or `command line`.")
    ]
    action: Action
    subject: Annotated[
        str, Field(description="A transaction, a key, a model, an erasure, or `thresholds`.")
    ]
    account_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
