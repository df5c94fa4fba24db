"""The types that the OpenAPI document cannot express."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

DecimalText = Annotated[str, Field(pattern=r"^\d{1,15}(\.\d{1,8})?$")]
# A text is exact. Of a number the service keeps 8 decimals. Strict: True is not 1.
Amount = DecimalText | Annotated[float, Field(strict=True, ge=0, lt=1e15)]
Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list. Where it `has_more`, pass `cursor=page.next_cursor` for the next one."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None
