"""Routes whose bodies and answers pass through Pydantic's core alone: bytes in, bytes out.

FastAPI parses the JSON first and validates the objects it gave, looks the dependencies up anew for
every request, and validates the answer before it is written. Here start-up has done what can be
done ahead. The signature still tells the OpenAPI document everything.
"""

from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from app.api.authentication import running_service, tenant_of

JSON = "application/json"


class ScoringRoute(APIRoute):
    """A route of `async def endpoint(posted, service, tenant)` for keys that may score."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        types = get_type_hints(self.endpoint)
        parse = TypeAdapter[Any](types["posted"]).validate_json
        write = TypeAdapter[Any](types["return"]).dump_json
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            service = running_service(request)
            headers = request.headers
            tenant = await tenant_of(service, headers.get("authorization"), ("score",))
            body = await request.body()
            try:
                posted = parse(_json(body, headers.get("content-type", "")))
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                errors = [{**one, "loc": ("body", *one["loc"])} for one in found]
                raise RequestValidationError(errors) from None
            return Response(write(await endpoint(posted, service, tenant)), media_type=JSON)

        return handle


def _json(body: bytes, content_type: str) -> bytes:
    kind = content_type.partition(";")[0].strip().lower()
    if not body:
        problem = {"type": "missing", "loc": ("body",), "msg": "Field required"}
    elif kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"a body is JSON, and its Content-Type {JSON}"
        problem = {"type": "content_type", "loc": ("body",), "msg": said}
    else:
        return body
    raise RequestValidationError([problem])
