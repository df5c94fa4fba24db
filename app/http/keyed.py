"""Routes for callers with a key: what a request costs others is bounded before it costs anything.

The key comes first, by the headers alone, and before a byte of the body is read. The body is read
within the tenant's share of memory. Only a request that has come whole takes one of its tenant's
places, so that whoever sends slowly, or nothing, is in nobody's way. FastAPI would read the body
first and look at the key afterwards.

Query parameters that a route does not have are refused, as in bodies, and so is a body that it does
not read: a filter that nobody applied would answer with everything, and a `dry_run` in the wrong
place would be stored.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from json import JSONDecodeError
from typing import Any, Self, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.params import Security
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import Message, Receive

from app.errors import FieldError, ValidationFailed
from app.http.authentication import Admission, authenticate
from app.http.fields import MOST_MEMBERS
from app.http.parts import part_of
from app.http.problems import (
    LONGEST_FIELD_NAME,
    MOST_FIELD_ERRORS,
    OTHER_CONTENT_TYPE,
    DeadlineExceeded,
    MalformedBody,
    invalid,
)
from app.http.quotas import Shares
from app.ops.turns import Turns

# A batch of the most payments with the most attributes has 90,000 values. Of so few as the second
# to find something wrong with each takes some 50 ms.
MOST_VALUES, CLEARLY_FEW = 100_000, 20_000
# What clients send that have nothing to say.
NOTHING = frozenset((b"", b"{}", b"null"))


class KeyedRoute(APIRoute):
    """A route whose endpoint has a parameter of one of the types in `app.http.authentication`.

    What is not committed at the deadline is not stored. A body is read as strictly as by the lean
    routes, in the same words: Python's own parser also takes UTF-16, a mark before the text and
    halves of characters.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        scopes = _scopes_of(self.endpoint)
        is_list = "cursor" in parameters_of(self)

        async def handled(request: Request) -> Response:
            scope, receive = request.scope, request.receive
            admission = part_of(scope, Admission)
            caller = await authenticate(admission, request.headers.get("authorization"), scopes)
            scope["caller"] = caller
            check_query(self, scope["query_string"])
            with HeldShare(admission, admission.bodies, caller.tenant) as memory:
                body = await whole_body(receive, memory)
                if self.body_field is None:
                    check_no_body(body)
                else:
                    check_size(body)
                receive = _again(body)
                with HeldShare(admission, admission.places, caller.tenant) as place:
                    place.take(1)
                    answering = handle(_JSONRequest(scope, receive))
                    if is_list:
                        answering = in_turn(admission.lists, answering)
                    return await in_time(admission.deadline_seconds, answering)

        async def handled_in_our_words(request: Request) -> Response:
            try:
                return await handled(request)
            except RequestValidationError as error:
                # Of bodies that are JSON, only those of another type come this far unparsed.
                is_of_body = any(detail["loc"][:1] == ("body",) for detail in error.errors())
                if isinstance(error.body, bytes) and is_of_body:
                    raise invalid([OTHER_CONTENT_TYPE]) from None
                raise

        return handled_in_our_words


class HeldShare(AbstractContextManager["HeldShare"]):
    """What a request holds of its tenant's share, until it has been answered."""

    def __init__(self, admission: Admission, shares: Shares, tenant: str) -> None:
        self._admission, self._shares = admission, shares
        self._tenant, self._amount = tenant, 0

    def take(self, amount: int) -> None:
        """Hold more; raises Overloaded where the tenant holds its share."""
        if not self._shares.has_room(self._tenant):
            self._admission.queue.refuse()
        self._shares.take(self._tenant, amount)
        self._amount += amount

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shares.give_back(self._tenant, self._amount)


async def whole_body(receive: Receive, memory: HeldShare) -> bytes:
    """All of a request's body; raises Overloaded, or MalformedBody for one that breaks off."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedBody("The caller hung up before the body had come.")
        if part := message.get("body", b""):
            memory.take(len(part))
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def check_size(body: bytes) -> None:
    """Raises ValidationFailed for a body of more values than any that is valid has.

    To find something wrong with each of 250,000 values takes two seconds, for which everybody
    waits. A value has a comma before it, or is the first one in its list or object.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) <= CLEARLY_FEW:
        return
    try:
        parsed = from_json(body)
    except ValueError:
        return  # Whoever reads it says what is wrong.
    message = ""
    if isinstance(parsed, dict) and len(parsed) > MOST_MEMBERS:
        message = f"an object of {len(parsed):,} members has more than {MOST_MEMBERS}"
    elif _has_more_values(parsed, MOST_VALUES):
        message = f"it holds more than {MOST_VALUES:,} values"
    if message:
        raise ValidationFailed(f"body: {message}", [FieldError("body", message)])


def _has_more_values(parsed: Any, most: int) -> bool:
    left, counted = [parsed], 1
    while left:
        value = left.pop()
        if isinstance(value, dict | list):
            counted += len(value)
            if counted > most:
                return True
            left += value.values() if isinstance(value, dict) else value
    return False


def _again(body: bytes) -> Receive:
    """What gives a body that has been read to whoever reads it next."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def in_time(seconds: float, answering: Coroutine[Any, Any, Response]) -> Response:
    """An answer; raises DeadlineExceeded where it takes longer than that."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await answering
    except TimeoutError:
        if limit.expired():
            raise DeadlineExceeded from None
        raise


async def in_turn(turns: Turns, answering: Coroutine[Any, Any, Response]) -> Response:
    """An answer that is begun once one of these turns is free."""
    try:
        async with turns.one():
            return await answering
    finally:
        # Where its turn never came.
        answering.close()


def _scopes_of(endpoint: Callable[..., Any]) -> tuple[str, ...]:
    """The scopes that a key needs, by the types of the endpoint's parameters."""
    hints = get_type_hints(endpoint, include_extras=True).values()
    marks = [mark for hint in hints for mark in getattr(hint, "__metadata__", ())]
    [security] = [mark for mark in marks if isinstance(mark, Security)]
    return tuple(security.scopes or ())


class _JSONRequest(Request):
    async def json(self) -> Any:
        try:
            return from_json(await self.body())
        except ValueError as error:
            # The only exception that FastAPI takes for a body that is not JSON.
            raise JSONDecodeError(str(error), "", 0) from None


def check_no_body(body: bytes) -> None:
    """Raises ValidationFailed for a body that says something to a route that reads none."""
    if body.strip() not in NOTHING:
        message = "this route takes no body, and would not heed it: leave it out"
        raise ValidationFailed(f"body: {message}", [FieldError("body", message)])


def check_query(route: APIRoute, query: bytes) -> None:
    """Raises ValidationFailed for parameters that the route does not have, or has only once.

    `query` is what follows the question mark, percent-encoded.
    """
    if not query:
        return
    names, many, seen = parameters_of(route), _lists(route.dependant), set[str]()
    errors: list[FieldError] = []
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in names:
            message = f"unknown query parameter; {_instead(names)}"
        elif name in seen - many:
            message = "this query parameter is given more than once; send it once"
        else:
            seen.add(name)
            continue
        errors.append(FieldError(name[:LONGEST_FIELD_NAME], message))
    if errors:
        first = errors[0]
        raise ValidationFailed(f"{first.field}: {first.message}", errors[:MOST_FIELD_ERRORS])


def parameters_of(route: APIRoute) -> tuple[str, ...]:
    """The query parameters that a route has, in the order of their names."""
    return tuple(sorted(_names(route.dependant)))


def _names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*map(_names, dependant.dependencies))


def _lists(dependant: Dependant) -> set[str]:
    """Those that may come more than once."""
    own = {
        field.alias
        for field in dependant.query_params
        if get_origin(field.field_info.annotation) is list
    }
    return own.union(*map(_lists, dependant.dependencies))


def _instead(names: tuple[str, ...]) -> str:
    if not names:
        return "this route takes none, and what belongs to a body must be sent in the body"
    return f"this route takes {', '.join(names)}"
