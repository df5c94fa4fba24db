"""Lists by opaque cursor: a page begins strictly after the last row of the one before.

Rows that come in meanwhile move nothing: no row is told twice, and none that was there all the
time is left out.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import Field, TypeAdapter

from app.errors import FieldError, ValidationFailed
from app.schemas.fields import Id
from app.schemas.pages import Page
from app.transactions import MOST_ITEMS

Item = TypeVar("Item")
Row = TypeVar("Row")
DEFAULT_ITEMS = 100
Key = tuple[int | float | str, ...]
Microseconds = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Risk = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# A cursor is the digest of its list, and the key of the row to go on after. Anybody can write
# one, so that a key is checked as strictly as anything else that comes in.
Cursor = TypeAdapter[tuple[Any, ...]]
BY_ID: Cursor = TypeAdapter(tuple[str, Id])
BY_TIME: Cursor = TypeAdapter(tuple[str, Microseconds, Id])
BY_RISK: Cursor = TypeAdapter(tuple[str, Risk, Id])
BY_TIMES: Cursor = TypeAdapter(tuple[str, Microseconds, Microseconds])


class Asked(NamedTuple):
    """How much of a list, and after what."""

    limit: int
    cursor: str | None

    def after(self, kind: Cursor, *listed: Any) -> Key | None:
        """The key of the row that this page begins after: None for the first page.

        `listed` names the list and its filters. Raises ValidationFailed for what is no cursor
        of the kind, and for one of another list.
        """
        if self.cursor is None:
            return None
        try:
            text = base64.b64decode(self.cursor, "-_", validate=True)
            digest, *key = kind.validate_json(text)
        except ValueError:
            raise _refused("This is not a cursor of this list.") from None
        if digest != _digest(listed):
            raise _refused("This cursor belongs to a list with other filters.")
        return tuple(key)

    def page(
        self,
        rows: Sequence[Row],
        shown: Callable[[Row], Item],
        key: Callable[[Row], Key],
        *listed: Any,
    ) -> Page[Item]:
        """A page of rows, of which one more was asked for than it shows."""
        mine = rows[: self.limit]
        has_more = len(rows) > len(mine)
        # Not in ASCII, which would make the longest of ids longer than a cursor may be.
        last = [_digest(listed), *key(mine[-1])] if has_more else None
        text = json.dumps(last, ensure_ascii=False) if last else ""
        cursor = base64.urlsafe_b64encode(text.encode()).decode()
        return Page(
            data=[shown(row) for row in mine], has_more=has_more, next_cursor=cursor or None
        )


async def _asked(
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Rows of a page.")] = (
        DEFAULT_ITEMS
    ),
    cursor: Annotated[
        str | None, Query(max_length=1000, description="The last page's next_cursor.")
    ] = None,
) -> Asked:
    return Asked(limit, cursor)


Paging = Annotated[Asked, Depends(_asked)]


def _digest(listed: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:12]


def _refused(message: str) -> ValidationFailed:
    return ValidationFailed(f"cursor: {message}", [FieldError("cursor", message)])
