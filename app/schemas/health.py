"""What orchestrators are told."""

from typing import Annotated

from pydantic import BaseModel, Field


class Status(BaseModel):
    status: Annotated[str, Field(examples=["ok"])]


class Readiness(Status):
    model: Annotated[str, Field(examples=["default@765c84895eab"])]
