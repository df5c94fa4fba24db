"""A part of a list, and how to go on."""

from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list. `next_cursor` asks for what follows, where there `has_more`."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None
