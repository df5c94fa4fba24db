"""Lists by opaque cursor: a page begins strictly after the last row of the one before.

Rows that come in meanwhile move nothing: no row comes twice, and none that was there all the
time is left out.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import Field, TypeAdapter

from app.db.pages import Part
from app.errors import FieldError, ValidationFailed
from app.http.fields import Id
from app.http.pages import Page
from app.learner.transaction import MOST_ITEMS

Item = TypeVar("Item")
Row = TypeVar("Row")
# Rows of a page that are made at once: a few milliseconds.
DEFAULT_ITEMS, STEP_ROWS = 100, 25
Key = tuple[int | float | str, ...]
Microseconds = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
Risk = Annotated[float, Field(strict=True, allow_inf_nan=False)]
# A cursor is the digest of its list, and the key of the row to go on after. Anybody can write
# one, so that a key is checked as strictly as anything else that comes in.
Cursor = TypeAdapter[tuple[Any, ...]]
BY_ID: Cursor = TypeAdapter(tuple[str, Id])
BY_TIME: Cursor = TypeAdapter(tuple[str, Microseconds, Id])
BY_RISK: Cursor = TypeAdapter(tuple[str, Risk, Id])
BY_ENTITY: Cursor = TypeAdapter(tuple[str, Id, Id])
BY_TIMES: Cursor = TypeAdapter(tuple[str, Microseconds, Microseconds])


class Listing(NamedTuple):
    """A list with its filters, and how much of it is asked for.

    `after` is the key of the row that the page begins after: None for the first page.
    """

    digest: str
    after: Key | None
    limit: int

    @property
    def rows(self) -> int:
        """How many rows to read: one more than a page shows tells whether another follows."""
        return self.limit + 1

    async def page(
        self, part: Part[Row], shown: Callable[[Row], Item], key: Callable[[Row], Key]
    ) -> Page[Item]:
        """A page of these rows.

        Others have their turn while it is made: of a thousand rows it takes tens of milliseconds.
        """
        data: list[Item] = []
        for first in range(0, min(len(part.rows), self.limit), STEP_ROWS):
            step = part.rows[first : min(first + STEP_ROWS, self.limit)]
            data += [shown(row) for row in step]
            await asyncio.sleep(0)
        cursor = self.next_cursor(part, key)
        return Page(data=data, has_more=cursor is not None, next_cursor=cursor)

    def next_cursor(self, part: Part[Row], key: Callable[[Row], Key]) -> str | None:
        """The cursor of the next page; None where nothing follows."""
        is_full = len(part.rows) > self.limit
        last = key(part.rows[self.limit - 1]) if is_full else part.until
        if last is None:
            return None
        # Not in ASCII, which would make the longest of ids longer than a cursor may be.
        text = json.dumps([self.digest, *last], ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).decode()


class PageParams(NamedTuple):
    """How much of a list, and after what."""

    limit: int
    cursor: str | None

    def of(self, kind: Cursor, name: str, *filters: Any) -> Listing:
        """The list that is read, by its name and its filters.

        Raises ValidationFailed for what is no cursor of the kind, and for one of another list.
        """
        digest = hashlib.sha256(json.dumps([name, *filters]).encode()).hexdigest()[:12]
        if self.cursor is None:
            return Listing(digest, None, self.limit)
        try:
            text = base64.b64decode(self.cursor, "-_", validate=True)
            digest_in_cursor, *key = kind.validate_json(text)
        except ValueError:
            raise _refused("Not a cursor of this list.") from None
        if digest_in_cursor != digest:
            raise _refused("This cursor belongs to a list with other filters.")
        return Listing(digest, tuple(key), self.limit)


async def _page_params(
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Rows of a page.")] = (
        DEFAULT_ITEMS
    ),
    cursor: Annotated[
        str | None, Query(max_length=1000, description="The last page's next_cursor.")
    ] = None,
) -> PageParams:
    return PageParams(limit, cursor)


Paging = Annotated[PageParams, Depends(_page_params)]


def _refused(message: str) -> ValidationFailed:
    return ValidationFailed(f"cursor: {message}", [FieldError("cursor", message)])
