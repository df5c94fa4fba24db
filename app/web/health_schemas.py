"""Answers for orchestrators."""

from pydantic import BaseModel, ConfigDict


class Status(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: str


class Readiness(Status):
    """The database answers too, and the model is loaded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ok", "model": "default@ee2277d1f564"}]}
    )

    model: str
