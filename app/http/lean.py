"""Routes whose bodies and answers pass through Pydantic's core alone: bytes in, bytes out.

FastAPI looks a route up by pattern, parses the JSON first and validates the objects it gave, looks
the dependencies up anew for every request, and validates the answer before it is written. Here
start-up has done what can be done ahead. The signature has everything for the OpenAPI document.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Problem
from app.http.authentication import Admission, Caller, authenticate
from app.http.batching import Place
from app.http.keyed import HeldShare, check_query, check_size, whole_body
from app.http.parts import part_of
from app.http.problems import OTHER_CONTENT_TYPE, BodyTooLarge, invalid, render

JSON = b"application/json"
# In the scope of a request that came in one piece: its place in the queue.
PLACE = "quickstudy.place"


class ScoringRoute(APIRoute):
    """A route of `async def endpoint(posted, admission, place)` for keys that may score.

    The endpoint returns what is to be written as JSON, in the shape of its response model.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        hints = get_type_hints(self.endpoint)
        self._parse = TypeAdapter[Any](hints["posted"]).validate_json

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """In place of what FastAPI makes of the signature, for paths that `LeanRoutes` misses."""

        async def handle(request: Request) -> Response:
            return Response(
                await self._answered(request.scope, request.receive), media_type=JSON.decode()
            )

        return handle

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of this route."""
        scope["route"] = self
        try:
            body = await self._answered(scope, receive)
        except Problem as problem:
            await render(problem)(scope, receive, send)
        except HTTPException:
            # `BodyLimit`, in the only words that FastAPI's own routes understand.
            await render(BodyTooLarge())(scope, receive, send)
        else:
            headers = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _answered(self, scope: Scope, receive: Receive) -> bytes:
        admission = part_of(scope, Admission)
        headers = dict(scope["headers"])
        # Before the body is read: who has no key learns nothing of what is wrong with it.
        scope["caller"] = caller = await caller_of(admission, headers)
        check_query(self, scope["query_string"])
        if PLACE not in scope:
            admission.queue.check(caller.tenant)
        with HeldShare(admission, admission.bodies, caller.tenant) as memory:
            body = await whole_body(receive, memory)
        # Nothing is awaited before the place is taken and the body is parsed. It is left before the
        # answer is sent, which a caller who does not read may keep waiting.
        place = scope.pop(PLACE, None) or admission.queue.enter(caller.tenant, len(body))
        try:
            return await self.body_of(admission, place, headers, body)
        finally:
            place.leave()

    async def body_of(
        self, admission: Admission, place: Place, headers: Mapping[bytes, bytes], body: bytes
    ) -> bytes:
        """The answer to a body that has a place in the queue; raises Problem."""
        _check(body, headers.get(b"content-type", b""))
        check_size(body)
        try:
            posted = self._parse(body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            raise invalid([{**error, "loc": ("body", *error["loc"])} for error in found]) from None
        return to_json(await self.endpoint(posted, admission, place))


async def caller_of(admission: Admission, headers: Mapping[bytes, bytes]) -> Caller:
    """Whom the key of a request for scores speaks for; raises as `authenticate` does."""
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    return await authenticate(admission, authorization, ("score",))


def lean_routes(routes: Iterable[BaseRoute]) -> dict[tuple[str, str], ScoringRoute]:
    """The lean ones among these routes, by method and path."""
    return {
        (method, route.path): route
        for route in routes
        if isinstance(route, ScoringRoute)
        for method in route.methods or ()
    }


class LeanRoutes:
    """ASGI middleware: hands a request to the lean route of its path, if there is one.

    A place that came with a request, and that no route has taken over, is left when it ends.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[tuple[str, str], ASGIApp]) -> None:
        self.app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope.get("method", ""), scope.get("path", "")))
        try:
            await (route or self.app)(scope, receive, send)
        finally:
            place: Place | None = scope.pop(PLACE, None)
            if place is not None:
                place.leave()


def _check(body: bytes, content_type: bytes) -> None:
    """Raises ValidationFailed for no body at all, or one whose type is not JSON."""
    kind = content_type.partition(b";")[0].strip().lower()
    if not body:
        raise invalid([{"type": "missing", "loc": ("body",), "msg": "Field required"}])
    if kind != JSON and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise invalid([OTHER_CONTENT_TYPE])
