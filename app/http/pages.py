"""A part of a list, and how to go on."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


def _of_one_item(schema: dict[str, Any], page: type[BaseModel]) -> None:
    """The example of a page: that of its item."""
    [item] = page.__pydantic_generic_metadata__["args"]
    examples = item.model_json_schema()["examples"]
    schema["examples"] = [{"data": examples, "has_more": False, "next_cursor": None}]


class Page(BaseModel, Generic[Item]):
    """A part of a list. `next_cursor` asks for what follows, where there `has_more`."""

    model_config = ConfigDict(json_schema_extra=_of_one_item)

    data: list[Item]
    has_more: bool
    next_cursor: str | None
