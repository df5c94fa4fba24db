"""The demonstration: how far it is, and what was loaded."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

LOADED: JsonDict = {"payments": 1764, "labels": 962, "reviews": 18, "declines": 35}
STATE: JsonDict = {"status": "done", "loaded": LOADED}


class DemoLoaded(BaseModel):
    """What there is to look at."""

    model_config = ConfigDict(json_schema_extra={"examples": [LOADED]})

    payments: int
    labels: int
    reviews: Annotated[int, Field(description="Payments of the last week that wait.")]
    declines: int


class DemoState(BaseModel):
    """Whether demonstration payments are being loaded."""

    model_config = ConfigDict(json_schema_extra={"examples": [STATE]})

    status: Annotated[
        Literal["none", "queued", "running", "done", "failed"],
        Field(description="`none` where nobody has asked for them, or they came a week ago."),
    ]
    loaded: Annotated[DemoLoaded | None, Field(description="Once it is done.")] = None
